//! The protocols that TLS which ends at a Service's ports agrees on (`gatehouse.io/tls-alpn`, RFC 7301).

use gatehouse_routes::{annotations::gatehouse, objects::ObjectRef, problem::Problem};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The longest name (RFC 7301 §3.1).
const LONGEST: usize = 255;

/// The names that a Service gives, the preferred ones first, each once. What is no name is said and left out.
pub(super) fn protocols(
    object: &ObjectRef,
    metadata: &ObjectMeta,
    ends_tls: bool,
    problems: &mut Vec<Problem>,
) -> Box<[Vec<u8>]> {
    let Some(found) = gatehouse::FAMILY.find(&gatehouse::TLS_ALPN, metadata) else {
        return Box::default();
    };
    if !ends_tls {
        problems.push(Problem::warning(
            object,
            "InvalidAnnotation",
            found.field(),
            "TLS does not end here, so no protocol is agreed on",
            "add gatehouse.io/tls-secret, or remove the annotation",
        ));
        return Box::default();
    }
    let mut protocols: Vec<Vec<u8>> = Vec::new();
    for name in found.value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if name.len() > LONGEST || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            problems.push(Problem::error(
                object,
                "InvalidAnnotation",
                found.field(),
                format!("{name:?} is no name of a protocol, so it is not agreed on"),
                "write names such as h2, postgresql or imap, separated by commas",
            ));
        } else if !protocols.iter().any(|known| known == name.as_bytes()) {
            protocols.push(name.into());
        }
    }
    protocols.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_their_order_once_and_what_is_none_is_said() {
        let long = "x".repeat(256);
        for (value, ends_tls, names, said) in [
            ("postgresql", true, &["postgresql"][..], None),
            (" h2 ,http/1.1,h2,", true, &["h2", "http/1.1"], None),
            ("", true, &[], None),
            ("h2 http/1.1,imap", true, &["imap"], Some("\"h2 http/1.1\" is no name")),
            (&long, true, &[], Some("is no name")),
            ("h2", false, &[], Some("TLS does not end here")),
        ] {
            let annotations = [("gatehouse.io/tls-alpn".to_owned(), value.to_owned())].into();
            let metadata = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
            let object =
                ObjectRef::new("Service", gatehouse_routes::objects::ObjectKey::new("d", "s"));
            let mut problems = Vec::new();
            let found = protocols(&object, &metadata, ends_tls, &mut problems);
            assert_eq!(
                found.iter().map(|it| String::from_utf8_lossy(it)).collect::<Vec<_>>(),
                names
            );
            assert_eq!(problems.len(), usize::from(said.is_some()), "{value}: {problems:?}");
            assert!(problems.iter().all(|it| it.message.contains(said.unwrap_or_default())));
        }
    }
}
