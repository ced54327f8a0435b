use proptest::prelude::*;

use super::*;

fn nothing(parser: Parser, value: &str) -> bool {
    (parser.read)(value) == Ok(Setting::Nothing)
}

#[test]
fn rewrite_targets_are_paths_with_numbered_references() {
    for (value, expected) in [
        ("/", ("/", false)),
        ("/new path/é", ("/new%20path/%C3%A9", false)),
        ("/$1/x$2", ("/$1/x$2", true)),
        ("$1", ("$1", true)),
        ("/$10", ("/$10", true)),
        ("/$1_old", ("/$1_old", true)),
        ("/$1 x", ("/$1%20x", true)),
        ("/café/$1", ("/caf%C3%A9/$1", true)),
        ("/a%2fb", ("/a%2Fb", false)),
        ("/é?b=c&d", ("/%C3%A9?b=c&d", false)),
        ("/x?p=/$1&q=/../x", ("/x?p=/$1&q=/../x", true)),
        ("/$1?", ("/$1?", true)),
    ] {
        let (text, captures) = expected;
        let expected = Target { text: text.into(), captures };
        assert_eq!((REWRITE.read)(value), Ok(Setting::Rewrite(expected)), "{value:?}");
    }
    for value in [
        "new",
        "https://a/é",
        "ftp://a/",
        "/a?b=c d",
        "/a?b=é",
        "/a?b=#",
        "/a?$args",
        "?b=c",
        "/$host",
        "/$0",
        "/$",
        "/${1}",
        "/../x",
        "/$1\n/",
        "/$1\\x",
        "/$1#",
    ] {
        let fault = (REWRITE.read)(value).unwrap_err();
        assert_eq!(fault.reason, "InvalidRewriteTarget", "{value:?}");
    }
}

#[test]
fn an_allow_list_asks_for_nothing_only_if_it_holds_every_address_of_both_families() {
    for value in [
        "",
        " ",
        ",",
        "0.0.0.0/0,::/0",
        "::/0, 0.0.0.0/0",
        "10.0.0.0/8,0.0.0.0/0,::/0",
        "0.0.0.0/0,::/0,",
        "0.0.0.0/0,,0.0.0.0/0, ::/0",
        " 0.0.0.0/0  ::/0\n",
    ] {
        assert!(nothing(NETWORKS, value) && nothing(SPACED_NETWORKS, value), "{value:?}");
    }
    for value in [
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/8",
        "0.0.0.0/0,::/0,x",
        "0.0.0.0/0;::/0",
        "0.0.0.0,::",
        "0.0.0.0/1,::/1",
        "0.0.0.0/0,::/129",
        "all",
    ] {
        assert!(!nothing(NETWORKS, value) && !nothing(SPACED_NETWORKS, value), "{value:?}");
    }
}

#[test]
fn what_is_switched_off_asks_for_nothing() {
    for (parser, off, on) in [
        (FLAG, &["", "false", "F", "0", "no", "Off", " none "][..], &["true", "on", "x"][..]),
        (FLAG_ON, &["", "true", "1"], &["false", "x"]),
        (FIREWALL, &["", "off", "inactive"], &["active", "simulate"]),
        (TEXT, &["", "\n"], &["0", "off", "false"]),
        (UNKNOWN, &["", "off", "false", "0", "::/0,0.0.0.0/0"], &["on", "true", "10", "0.0.0.0/0"]),
        (TERMINATION, &[""], &["Edge", "none"]),
    ] {
        for value in off {
            assert!(nothing(parser, value), "{value:?}");
        }
        for value in on {
            assert_eq!((parser.read)(value), Ok(Setting::Unbuilt), "{value:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_list_of_any_text_never_panics(value in "[0-9a-f:./, ]{0,40}") {
        let _ = (NETWORKS.read)(&value);
        let _ = (SPACED_NETWORKS.read)(&value);
    }
}

#[test]
fn strict_transport_security_needs_an_age_and_says_nothing_twice() {
    for (value, sent) in [
        ("max-age=31536000", true),
        ("MAX-AGE=5; IncludeSubDomains;preload", true),
        ("preload;max-age=\"0\"", true),
        ("max-age=99999999999999999999999", true),
        ("max-age=1;max-age=2", false),
        ("max-age=1;preload;Preload", false),
        ("includeSubDomains", false),
        ("max-age=", false),
        ("max-age=\"\"", false),
        ("max-age=\"5", false),
        ("max-age=-1", false),
        ("max-age=1;", false),
        ("max-age=1;preload=1", false),
    ] {
        assert_eq!((HSTS.read)(value).is_ok(), sent, "{value}");
    }
}
