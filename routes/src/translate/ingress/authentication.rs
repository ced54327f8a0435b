//! Who may pass an Ingress: its settings and the objects that they name, made into one filter.
//!
//! What cannot be had closes the Ingress: a path that asked for authentication is never served without.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use k8s_openapi::api::core::v1::Secret;

use super::Translator;
use crate::{
    annotations::authentication::{AuthUrl, ExternalSettings, Layout, Part},
    endpoints,
    filter::{
        Filter,
        answer_fields::may_be_set,
        authentication::{
            Authentication, Basic, Users,
            external::{AuthServer, Cache, Durations, External, Statuses},
        },
    },
    model::ExternalName,
    problem::Problem,
    references::Reference,
    template::Template,
    translate::tokens::{self, CLOSED},
    transport::Speaks,
};

const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"Authentication Required\"");
/// The key of a Secret that holds a file of `htpasswd`.
const FILE: &str = "auth";
/// Users that a message names.
const NAMED: usize = 5;

impl Translator<'_, '_> {
    /// Adds the filter, or closes the Ingress.
    pub(super) fn authentication(&mut self) {
        let basic = match self.basic() {
            Ok(basic) => basic,
            Err(problem) => return self.refuse(*problem),
        };
        let external = match self.external() {
            Ok(external) => external,
            Err(problem) => return self.refuse(*problem),
        };
        let settings = &self.settings.authentication;
        let mut reader = tokens::Reader {
            object: &self.out.object,
            objects: self.reading.objects,
            loopback: self.reading.loopback,
            references: &mut self.out.references,
        };
        let mut jwt = match reader.jwt(settings, self.settings.limits.need_tokens()) {
            Ok(jwt) => jwt,
            Err(problem) => return self.refuse(*problem),
        };
        if let Some(jwt) = &mut jwt {
            tokens::find_service(jwt, &mut self.out, self.slots);
        }
        let any = settings.any.then(|| self.settings.addresses.clone());
        Authentication { any, basic, jwt, external }.join(&mut self.filters);
    }

    fn refuse(&mut self, problem: Problem) {
        self.settings.deny.get_or_insert(problem.reason);
        self.out.problems.push(problem);
    }

    fn basic(&mut self) -> Result<Option<Basic>, Box<Problem>> {
        let settings = self.settings.authentication.clone();
        let incomplete = |object, part: Part, message: &str, hint: &'static str| {
            let field = part.field();
            Box::new(Problem::error(object, "IncompleteAuthentication", field, message, hint))
        };
        let secret = match (settings.basic, settings.users) {
            (true, Some(secret)) => secret,
            (true, None) => {
                return Err(incomplete(
                    &self.out.object,
                    Part::Type,
                    &format!("no Secret with users is named, so {CLOSED}"),
                    "name it by auth-secret",
                ));
            }
            (false, Some(_)) => {
                return Err(incomplete(
                    &self.out.object,
                    Part::Secret,
                    &format!("it has no effect without auth-type, so {CLOSED}"),
                    "write auth-type: basic, or remove the annotation if the paths may be open",
                ));
            }
            (false, None) => return Ok(None),
        };
        let (key, field) =
            (tokens::own_key(&self.out.object, Part::Secret, &secret)?, Part::Secret.field());
        let reference = Reference::secret(self.reading.objects, key);
        self.out.references.push(reference.clone());
        let secret = reference.as_secret(&self.out.object, &field, CLOSED)?;
        let users = Arc::new(self.users(&secret, settings.layout, &reference, &field)?);
        let challenge = settings.challenge.unwrap_or(CHALLENGE);
        Ok(Some(Basic { challenge, users }))
    }

    fn external(&mut self) -> Result<Option<External>, Box<Problem>> {
        let settings = self.settings.authentication.external.clone();
        let Some(url) = &settings.url else {
            let alone = settings.method.map(|_| Part::Method);
            let alone = alone.or_else(|| settings.signin.as_ref().map(|_| Part::Signin));
            let alone = alone.or_else(|| settings.copy.as_ref().map(|_| Part::Copy));
            let alone = alone.or_else(|| settings.fields.as_ref().map(|_| Part::Fields));
            let alone = alone.or_else(|| settings.set.first().map(|_| Part::Snippet));
            let alone = alone.or_else(|| settings.authorities.as_ref().map(|_| Part::Authorities));
            let Some(alone) = alone else { return Ok(None) };
            return Err(Box::new(Problem::error(
                &self.out.object,
                "IncompleteAuthentication",
                alone.field(),
                format!("it has no effect without auth-url, so {CLOSED}"),
                "write auth-url, or remove the annotation if the paths may be open",
            )));
        };
        let cache = settings.cache_key.clone().map(|key| {
            let durations = settings.cache_durations.clone().unwrap_or_else(kept_by_default);
            Cache { key, durations }
        });
        let server = self.server(url)?;
        let signin = settings.signin.as_deref().map(|signin| way_back(signin, &settings));
        let signin = signin.and_then(|signin| Template::parse(&signin).ok());
        Ok(Some(External {
            server,
            target: url.target.clone(),
            method: settings.method.clone().unwrap_or(Method::GET),
            signin,
            redirect: settings.redirect.clone(),
            set: {
                let fields = self.question_fields(settings.fields.as_deref())?;
                fields.into_iter().chain(settings.set).collect()
            },
            copy: settings.copy.iter().flat_map(|names| names.iter().cloned()).collect(),
            always_cookies: settings.always_cookies,
            cache,
        }))
    }

    fn server(&mut self, url: &AuthUrl) -> Result<AuthServer, Box<Problem>> {
        let Some((host, port, authority)) = url.host.clone() else {
            return Ok(AuthServer::SameHost);
        };
        let loopback = self.reading.loopback;
        if let Ok(ip) = host.parse::<std::net::IpAddr>()
            && let Some(why) = endpoints::refusal(ip)
            && !(loopback && ip.is_loopback())
        {
            return Err(Box::new(Problem::error(
                &self.out.object,
                "InvalidAuthUrl",
                Part::Url.field(),
                format!("{host} is {why}, which no gateway asks, so {CLOSED}"),
                "name the Service of the authentication service",
            )));
        }
        let authorities = self.settings.authentication.external.authorities.clone();
        let trust = match authorities {
            Some(name) => {
                let mut reader = tokens::Reader {
                    object: &self.out.object,
                    objects: self.reading.objects,
                    loopback,
                    references: &mut self.out.references,
                };
                Some(reader.authorities(Part::Authorities, &name)?)
            }
            None => None,
        };
        let name = ExternalName { host, port, speaks: Speaks::Http1, loopback };
        let service = self.out.named(&name, Part::Url.field(), self.slots);
        Ok(AuthServer::Host { name, service, authority, secure: url.secure, trust })
    }

    /// The fields that a ConfigMap adds to the question.
    fn question_fields(
        &mut self,
        map: Option<&str>,
    ) -> Result<Box<[(HeaderName, Template)]>, Box<Problem>> {
        let Some(map) = map else { return Ok(Box::default()) };
        let key = tokens::own_key(&self.out.object, Part::Fields, map)?;
        let reference = Reference::config_map(self.reading.objects, key);
        self.out.references.push(reference.clone());
        let map = reference.as_config_map(&self.out.object, &Part::Fields.field(), CLOSED)?;
        let entry = |(name, value): (&String, &String)| {
            let name = HeaderName::try_from(name).ok().filter(may_be_set);
            let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            name.zip(Template::parse(value.trim()).ok().filter(|_| plain))
        };
        let mut entries = map.data.iter().flatten();
        let read: Option<Vec<_>> = entries.by_ref().map(entry).collect();
        read.map(Into::into).ok_or_else(|| {
            Box::new(Problem::error(
                &self.out.object,
                "InvalidHeader",
                Part::Fields.field(),
                format!(
                    "{} holds a field that cannot be set, or a variable that is not known, so {CLOSED}",
                    reference.object()
                ),
                "write names of fields and plain values",
            ))
        })
    }

    fn users(
        &mut self,
        secret: &Secret,
        layout: Layout,
        reference: &Reference,
        field: &str,
    ) -> Result<Users, Box<Problem>> {
        let object = self.out.object.clone();
        let broken = |message: String, hint: &'static str| {
            let message = format!("{} {message}, so {CLOSED}", reference.object());
            Box::new(Problem::error(&object, "InvalidUsers", field, message, hint))
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let data = secret.data.iter().flatten().map(|(key, value)| (&**key, text(&value.0)));
        let given = secret.string_data.iter().flatten().map(|(key, value)| (&**key, value.clone()));
        let all: Vec<(&str, String)> = data.chain(given).collect();
        let (users, unreadable) = match layout {
            Layout::Map => Users::from_pairs(all.iter().map(|(user, hash)| (*user, hash.as_str()))),
            Layout::File => {
                let file = all.iter().find(|(key, _)| *key == FILE).ok_or_else(|| {
                    broken(
                        format!("has no key {FILE:?}"),
                        "put the file of htpasswd under that key, or write auth-secret-type: auth-map if each user is a \
                         key",
                    )
                })?;
                Users::from_htpasswd(&file.1)
            }
        };
        let hint = "make the hashes with htpasswd -B, or with -5 for SHA-512";
        if users.is_empty() {
            let why = unreadable.first().map(|one| format!(": {} {}", one.user, one.fault));
            return Err(broken(format!("lets nobody in{}", why.unwrap_or_default()), hint));
        }
        if !unreadable.is_empty() {
            let named =
                unreadable.iter().take(NAMED).map(|one| format!("{} {}", one.user, one.fault));
            let more = unreadable.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let named = named.collect::<Vec<_>>().join(", ");
            let message = format!("{}: {named}{more}: not let in", reference.object());
            let problem = Problem::warning(&object, "InvalidUsers", field, message, hint);
            self.out.problems.push(problem);
        }
        Ok(users)
    }
}

/// `auth-cache-duration` of ingress-nginx, if an object says nothing.
fn kept_by_default() -> Durations {
    Durations([(Statuses::These([200, 202, 401].into()), Duration::from_secs(300))].into())
}

/// Where clients sign in, with the way back if it does not name that itself.
fn way_back(signin: &str, settings: &ExternalSettings) -> String {
    let name = settings.signin_parameter.as_deref().unwrap_or("rd");
    let back = format!("{name}=$pass_access_scheme://$http_host$escaped_request_uri");
    match signin.split_once('?') {
        None => format!("{signin}?{back}"),
        Some((_, "")) => format!("{signin}{back}"),
        Some((_, query)) => {
            let named = query.split('&').any(|pair| {
                pair.split_once('=').is_some_and(|(key, value)| key == name && !value.is_empty())
            });
            if named { signin.to_owned() } else { format!("{signin}&{back}") }
        }
    }
}

/// For requests of an ACME solver, which nobody can authenticate: what is left of a filter.
pub(super) fn for_solver(filter: &Filter) -> Option<Filter> {
    match filter {
        Filter::RateLimit(_)
        | Filter::Connections(_)
        | Filter::ClientCertificate(_)
        | Filter::Cases(_) => None,
        Filter::Authenticate(authentication) => {
            let rules = authentication.any.clone().filter(|rules| *rules != Default::default())?;
            Some(Filter::Access(Arc::new(rules)))
        }
        other => Some(other.clone()),
    }
}
