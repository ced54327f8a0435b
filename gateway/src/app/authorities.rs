//! Files with authorities that the command line names: read at the start, which fails where they cannot be used.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use gatehouse_routes::filter::client_certificate::{
    CertificateFields, ClientCertificates, Demand, SubjectPatterns, Subjects,
};

use crate::{
    config::{RouteClientSettings, Settings},
    regular_file,
    tls::chain::Authorities,
};

/// Certificates between that of the client and that of the authority: as many as OpenSSL allows.
const DEPTH: u8 = 100;

/// The authorities of the pods of Routes (`--destination-ca`).
pub(super) fn destination(settings: &Settings) -> anyhow::Result<Option<Arc<str>>> {
    let Some(file) = &settings.destination_ca else { return Ok(None) };
    let text = read("--destination-ca", file)?;
    Authorities::parse(("the file", text.as_bytes()), None)
        .map_err(|why| anyhow::anyhow!("--destination-ca {}: {why}", file.display()))?;
    Ok(Some(text.into()))
}

/// What clients of Routes have to show (`--client-ca`).
pub(super) fn route_clients(
    settings: &RouteClientSettings,
) -> anyhow::Result<Option<Arc<ClientCertificates>>> {
    let Some(file) = &settings.client_ca else { return Ok(None) };
    let authorities = read("--client-ca", file)?;
    let lists =
        settings.client_crl.as_deref().map(|file| read("--client-crl", file)).transpose()?;
    let revoked = lists.as_deref().map(|text| ("--client-crl", text.as_bytes()));
    Authorities::parse(("--client-ca", authorities.as_bytes()), revoked)
        .map_err(|why| anyhow::anyhow!("--client-ca {}: {why}", file.display()))?;
    let patterns = &settings.client_subject_patterns;
    let subjects = match patterns.is_empty() {
        true => None,
        false => {
            let patterns = SubjectPatterns::parse(patterns).map_err(anyhow::Error::msg);
            Some(Subjects::Patterns(patterns.context("--client-subject-pattern")?))
        }
    };
    let demand = Demand {
        authorities: authorities.into_bytes().into(),
        revoked: lists.map(|text| text.into_bytes().into()),
        verify: settings.client_certificate_policy.into(),
        depth: DEPTH,
        subjects,
    };
    let fields = CertificateFields::Router;
    Ok(Some(Arc::new(ClientCertificates { demand: Arc::new(demand), error_page: None, fields })))
}

fn read(flag: &str, file: &Path) -> anyhow::Result<String> {
    regular_file::read_to_string(file)
        .with_context(|| format!("cannot read {flag} {}", file.display()))
}
