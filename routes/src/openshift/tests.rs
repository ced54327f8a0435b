use super::*;

#[test]
fn every_field_of_the_api_survives_reading_and_writing() {
    let text = r#"{
        "metadata": {"name": "r", "namespace": "d"},
        "spec": {
            "host": "foo.com", "subdomain": "x", "path": "/p",
            "to": {"kind": "Service", "name": "a", "weight": 1},
            "alternateBackends": [{"kind": "Service", "name": "b", "weight": 2}],
            "port": {"targetPort": "http"},
            "tls": {
                "termination": "reencrypt", "certificate": "C", "key": "K", "caCertificate": "CA",
                "destinationCACertificate": "D", "insecureEdgeTerminationPolicy": "Allow",
                "externalCertificate": {"name": "s"}
            },
            "wildcardPolicy": "None",
            "httpHeaders": {"actions": {
                "request": [{"name": "X", "action": {"type": "Set", "set": {"value": "v"}}}],
                "response": [{"name": "Y", "action": {"type": "Delete"}}]
            }}
        },
        "status": {"ingress": [{"host": "foo.com"}]}
    }"#;
    let given: Value = serde_json::from_str(text).unwrap();
    let route: Route = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&route).unwrap(), given);
}

#[test]
fn unknown_fields_are_ignored() {
    let route: Result<Route, _> = serde_json::from_str(
        r#"{"apiVersion": "route.openshift.io/v1", "spec": {"new": 1}, "x": 2}"#,
    );
    assert_eq!(route.unwrap(), Route::default());
}
