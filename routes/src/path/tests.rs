use proptest::prelude::*;

use super::*;

#[test]
fn each_path_has_one_canonical_form() {
    for (raw, matched, rewritten) in [
        ("/", "/", false),
        ("/a/b", "/a/b", false),
        ("/a/b/", "/a/b/", false),
        ("/.well-known/x", "/.well-known/x", false),
        ("/a/...", "/a/...", false),
        ("/a/..b/.c", "/a/..b/.c", false),
        ("/a;v=1/b@c:d!$&'()*+,=", "/a;v=1/b@c:d!$&'()*+,=", false),
        // what needs no escape is decoded once, other escapes are kept in capitals
        ("/users%3Adelete", "/users:delete", false),
        ("/%40me/it%27s%281%29%21%24%26%2a%2B%2c%3b%3D", "/@me/it's(1)!$&*+,;=", false),
        ("/%61%7E%2d%5f", "/a~-_", false),
        ("/%e2%82%ac", "/%E2%82%AC", false),
        ("/a%20b", "/a%20b", false),
        ("/a%3fb%23c", "/a%3Fb%23c", false),
        ("/%2561", "/%2561", false),
        ("/%253A", "/%253A", false),
        // what should be escaped is
        ("/\"<>^`{|}[]", "/%22%3C%3E%5E%60%7B%7C%7D%5B%5D", false),
        ("/%22%3c%3E%5e%60%7b%7C%7d%5b%5d", "/%22%3C%3E%5E%60%7B%7C%7D%5B%5D", false),
        ("/%252e%252e/a", "/%252e%252e/a", false),
        ("/%252f", "/%252f", false),
        // slashes
        ("//", "/", false),
        ("//a///b//", "/a/b/", false),
        // dot segments, RFC 3986 §5.2.4
        ("/a/b/c/./../../g", "/a/g", true),
        ("/.", "/", true),
        ("/./", "/", true),
        ("/a/.", "/a/", true),
        ("/a/./", "/a/", true),
        ("/a/..", "/", true),
        ("/a/b/..", "/a/", true),
        ("/a/b/../", "/a/", true),
        ("/a/b/../c", "/a/c", true),
        ("/a//../b", "/b", true),
        ("/a/%2e%2E/b", "/b", true),
        ("/a/.%2e/b", "/b", true),
        ("/a/%2e/b", "/a/b", true),
        ("/%2e", "/", true),
    ] {
        let path = canonical(raw).unwrap_or_else(|e| panic!("{raw:?}: {e}"));
        assert_eq!((&*path.matched, path.rewritten), (matched, rewritten), "{raw:?}");
    }
}

#[test]
fn what_servers_read_differently_is_refused() {
    use PathError::*;
    for (raw, error) in [
        ("", NoLeadingSlash),
        ("a", NoLeadingSlash),
        ("*", NoLeadingSlash),
        ("http://a/", NoLeadingSlash),
        ("/a b", ForbiddenByte { byte: b' ', at: 2 }),
        ("/a#b", ForbiddenByte { byte: b'#', at: 2 }),
        ("/a?b", ForbiddenByte { byte: b'?', at: 2 }),
        ("/a\\b", ForbiddenByte { byte: b'\\', at: 2 }),
        ("/a\0", ForbiddenByte { byte: 0, at: 2 }),
        ("/a\r\n", ForbiddenByte { byte: b'\r', at: 2 }),
        ("/\x7f", ForbiddenByte { byte: 0x7f, at: 1 }),
        ("/é", ForbiddenByte { byte: 0xc3, at: 1 }),
        ("/%", BadEscape { at: 1 }),
        ("/%4", BadEscape { at: 1 }),
        ("/%4g", BadEscape { at: 1 }),
        ("/%%34", BadEscape { at: 1 }),
        ("/%00", ForbiddenEscape { byte: 0, at: 1 }),
        ("/%0d%0a", ForbiddenEscape { byte: b'\r', at: 1 }),
        ("/%7F", ForbiddenEscape { byte: 0x7f, at: 1 }),
        ("/..", AboveRoot),
        ("/../a", AboveRoot),
        ("/a/../..", AboveRoot),
        ("/a/../../b", AboveRoot),
        ("/%2e%2e/a", AboveRoot),
        ("//..", AboveRoot),
        ("/./..", AboveRoot),
    ] {
        assert_eq!(canonical(raw), Err(error), "{raw:?}");
    }
}

#[test]
fn an_encoded_slash_is_part_of_its_segment() {
    for (raw, matched, rewritten) in [
        ("/a%2Fb", "/a%2Fb", false),
        ("/a%2fb", "/a%2Fb", false),
        ("/a%5cb", "/a%5Cb", false),
        ("/%2f", "/%2F", false),
        ("/a%2F%2Fb/", "/a%2F%2Fb/", false),
        ("/a/%2e%2e%2Fb", "/a/..%2Fb", false),
        ("/a/../b%2fc", "/b%2Fc", true),
    ] {
        let path = canonical(raw).unwrap_or_else(|e| panic!("{raw:?}: {e}"));
        let expected =
            CanonicalPath { matched: Cow::Borrowed(matched), rewritten, encoded_slash: true };
        assert_eq!(path, expected, "{raw:?}");
    }
    assert!(!canonical("/a%252Fb").unwrap().encoded_slash, "an encoded percent sign is none");
}

#[test]
fn servers_may_read_an_encoded_slash_as_a_separator() {
    for (path, readings) in [
        ("/a%2Fb", &[Ok("/a/b")][..]),
        ("/a%5Cb", &[Ok("/a/b")]),
        ("/a%2Fb%5Cc", &[Ok("/a/b%5Cc"), Ok("/a%2Fb/c"), Ok("/a/b/c")]),
        ("/%2Fa%2F%2Fb", &[Ok("/a/b")]),
        ("/a/..%2Fb", &[Ok("/b")]),
        ("/..%2Fb", &[Err(PathError::AboveRoot)]),
        ("/a%252Fb", &[]),
    ] {
        let given: Vec<_> = slash_readings(path).collect();
        let given: Vec<_> = given.iter().map(|one| one.as_deref().map_err(|e| *e)).collect();
        assert_eq!(given, readings, "{path}");
    }
}

#[test]
fn expressions_see_characters_and_find_back_where_they_stand() {
    for (path, expected) in [
        ("/a", "/a"),
        ("/caf%C3%A9/x", "/café/x"),
        ("/a%20b%2Fc", "/a b%2Fc"),
        ("/100%25", "/100%25"),
        ("/%FF%C3%A9%C3", "/%FFé%C3"),
        ("/a%5Cb%3Fc", "/a%5Cb?c"),
    ] {
        assert_eq!(readable(path), expected);
        let (text, offsets) = readable_with_offsets(path);
        assert_eq!((&*text, offsets.len()), (expected, text.len() + 1));
        assert_eq!(offsets[text.len()], path.len());
        let last = text.char_indices().next_back().unwrap().0;
        assert_eq!(readable(&path[offsets[last]..]), text[last..], "{path}");
    }
}

#[test]
fn a_canonical_path_is_borrowed() {
    for raw in ["/", "/api/v1/items", "/.well-known/acme-challenge/x", "/a.b/..c"] {
        assert!(matches!(canonical(raw).unwrap().matched, Cow::Borrowed(_)), "{raw}");
    }
}

#[test]
fn rule_paths_are_spelled_as_requests_spell_them() {
    for (text, expected) in [
        ("/foo", Ok("/foo")),
        ("/café au lait", Ok("/caf%C3%A9%20au%20lait")),
        ("/%7euser", Ok("/~user")),
        ("/a%2fb", Ok("/a%2Fb")),
        ("/a\nb", Err(PathError::ForbiddenEscape { byte: b'\n', at: 2 })),
        ("/..", Err(PathError::AboveRoot)),
    ] {
        assert_eq!(pattern(text).as_deref(), expected.as_ref().map(|s| *s), "{text:?}");
    }
}

proptest! {
    #[test]
    fn the_canonical_form_is_stable_and_clean(
        raw in "/([a-c.%/;]|%2[eE]|%2F|%61|%e2|\\./|\\.\\./){0,24}|/\\PC{0,24}"
    ) {
        if let Ok(once) = canonical(&raw) {
            let twice = canonical(&once.matched).expect("a canonical path is a path");
            prop_assert_eq!(&twice.matched, &once.matched);
            prop_assert!(!twice.rewritten);
            prop_assert!(once.matched.starts_with('/') && !once.matched.contains("//"));
            prop_assert!(once.matched.split('/').all(|s| s != "." && s != ".."));
        }
    }

    #[test]
    fn paths_without_dot_segments_or_double_slashes_go_on_as_they_came(
        raw in "(/[a-z][a-z0-9.~_-]{0,8}){1,6}/?"
    ) {
        let path = canonical(&raw).unwrap();
        let matched = Cow::Borrowed(&*raw);
        prop_assert_eq!(path, CanonicalPath { matched, rewritten: false, encoded_slash: false });
    }

    #[test]
    fn a_rule_and_a_request_meet_however_either_spells_its_characters(
        spelled in proptest::collection::vec((r"[^/\\%\pC]", any::<bool>(), any::<bool>()), 1..24)
    ) {
        let spell = |escape: fn(&(String, bool, bool)) -> bool| {
            let mut out = "/x".to_owned();
            for one in &spelled {
                match escape(one) {
                    true => one.0.bytes().for_each(|byte| push_escape(&mut out, byte)),
                    false => out.push_str(&one.0),
                }
            }
            out + "x"
        };
        let request = escaped(&spell(|one| one.1)).into_owned();
        let (rule, request) = (pattern(&spell(|one| one.2)).unwrap().into_owned(), canonical(&request).unwrap());
        prop_assert_eq!(rule, &*request.matched);
        prop_assert!(request.matched.bytes().all(|byte| !matches!(CLASS[usize::from(byte)], Class::Odd)));
    }

    #[test]
    fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
        let raw = String::from_utf8_lossy(&raw);
        let _ = canonical(&raw);
        let _ = canonical(&format!("/{raw}"));
        let _ = pattern(&raw);
    }
}
