//! Names of interfaces, as objects write them: whether Linux can have such a one.
//!
//! Advertisements and peers ask before they look for an interface that will never be there. Pure.

/// `IFNAMSIZ` of Linux, without the zero at the end.
const LONGEST_NAME: usize = 15;

/// Why no interface can have a name (`dev_valid_name` of Linux); `None` for a name that one can have.
pub(crate) fn name_fault(name: &str) -> Option<String> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let shown: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.is_empty() {
        Some("an interface without a name is none".to_owned())
    } else if name.len() > LONGEST_NAME {
        Some(format!("\"{shown}\" is longer than the {LONGEST_NAME} bytes of an interface's name"))
    } else if name == "." || name == ".." || name.contains(odd) {
        Some(format!("no interface can be named \"{shown}\""))
    } else if name.contains(['*', '?', '[', ']', '^', '$', '(', ')', '|']) {
        Some(format!("\"{shown}\" is a pattern, not the name of an interface"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_told_apart() {
        for name in ["eth0", "enp0s31f6", "br-lan", "bond0.100", "eth0@x", "wg+", "fifteen-bytes-x"]
        {
            assert_eq!(name_fault(name), None, "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "eth0:1",
            "a/b",
            "eth 0",
            " eth0",
            "sixteen-bytes-xy",
            "eth*",
            "eth[01]",
            "a\n",
        ] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
    }
}
