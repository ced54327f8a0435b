use super::*;

#[test]
fn the_literal_head_of_an_expression_is_the_directory_all_matches_are_in() {
    for (text, head) in [
        ("/admin/(?!x).*", Some("/admin/")),
        ("/a/b/c(", Some("/a/b/")),
        ("/a/b+(", Some("/a/")),
        ("/a/b?(", Some("/a/")),
        ("/a/*(", None),
        ("/a(", None),
        ("/(", None),
        ("(", None),
        ("/a/|/b(", None),
        ("/a/./(", Some("/a/")),
        ("/é/(", Some("/é/")),
    ] {
        assert_eq!(closing::literal_head(text), head, "{text:?}");
    }
}

#[test]
fn references_without_an_expression_are_filled_in_with_nothing() {
    for (target, expected) in [("/$1", "/"), ("/a$2/b$9", "/a/b"), ("$1", "/"), ("/x", "/x")] {
        assert_eq!(&*without_references(target), expected);
    }
}
