use std::process::Command;

use super::*;

fn hash(text: &str) -> PasswordHash {
    PasswordHash::parse(text).unwrap_or_else(|fault| panic!("{text} {fault}"))
}

/// What `htpasswd` makes of a password.
fn htpasswd(options: &[&str], password: &str) -> PasswordHash {
    let output =
        Command::new("htpasswd").args(["-nb"]).args(options).args(["ann", password]).output();
    let output = output.expect("htpasswd runs: it is in the package apache2-utils");
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, text) = text.trim().split_once(':').unwrap_or_else(|| panic!("{options:?}: {text:?}"));
    hash(text)
}

#[test]
fn what_htpasswd_hashes_is_verified_in_every_form() {
    let long = "p".repeat(40);
    for options in
        [&["-B", "-C", "4"][..], &["-m"], &["-s"], &["-2", "-r", "1000"], &["-5", "-r", "1000"]]
    {
        for password in ["secret", "p:a s$", "ä", &long, "x"] {
            let hash = htpasswd(options, password);
            assert!(verify::verify(&hash, password.as_bytes()), "{options:?} {password}: {hash:?}");
            let other = format!("{password}x");
            assert!(!verify::verify(&hash, other.as_bytes()), "{options:?} {other}");
            assert!(!verify::verify(&hash, b""), "{options:?}");
        }
    }
}

#[test]
fn forms_that_htpasswd_does_not_make_are_verified_too() {
    for (text, password) in [
        // Made with openssl passwd -1 and -5, and with slappasswd.
        ("$1$abcdefgh$G//4keteveJp0qb8z2DxG/", "password"),
        ("{SSHA}yCc6ORhNMaFf2lXH5bcvP2qOJ0JoZWxsb3NhbHQ=", "x"),
    ] {
        let right = verify::verify(&hash(text), password.as_bytes());
        assert_eq!(right, text.starts_with("$1$"), "{text}");
    }
    let salted = {
        let mut context =
            aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(b"secretsalt");
        let mut bytes = context.finish().as_ref().to_vec();
        bytes.extend_from_slice(b"salt");
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
    };
    let salted = hash(&format!("{{SSHA}}{salted}"));
    assert!(verify::verify(&salted, b"secret") && !verify::verify(&salted, b"secre"));
}

fn ask(passwords: &Passwords, client: u64, hash: &PasswordHash, password: &str) -> Asked {
    let mark = passwords.mark(hash, password.as_bytes());
    passwords.ask(mark, client, hash, password.as_bytes(), Instant::now())
}

fn wait(asked: Asked) -> Verdict {
    match asked {
        Asked::Wait(receiver) => receiver.blocking_recv().unwrap(),
        Asked::Known(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_password_is_verified_once_and_then_known() {
    let passwords = Passwords::with_threads(1).unwrap();
    let hash = htpasswd(&["-B", "-C", "4"], "secret");
    assert_eq!(wait(ask(&passwords, 1, &hash, "secret")), Verdict::Right);
    assert!(matches!(ask(&passwords, 1, &hash, "secret"), Asked::Known(Verdict::Right)));
    assert_eq!(wait(ask(&passwords, 1, &hash, "wrong")), Verdict::Wrong);
    assert!(matches!(ask(&passwords, 2, &hash, "wrong"), Asked::Known(Verdict::Wrong)));
    // Another hash of the same password is another question: a password that was changed is not known.
    let other = htpasswd(&["-B", "-C", "4"], "secret");
    assert!(matches!(ask(&passwords, 1, &other, "secret"), Asked::Wait(_)));
}

#[test]
fn a_flood_of_wrong_passwords_is_bounded_and_delays_nobody_who_is_known() {
    let passwords = Passwords::with_threads(1).unwrap();
    let hash = htpasswd(&["-B", "-C", "10"], "secret");
    assert_eq!(wait(ask(&passwords, 1, &hash, "secret")), Verdict::Right);
    let begun = Instant::now();
    let (mut waiting, mut too_many, mut full, mut known) = (Vec::new(), 0, 0, 0);
    for number in 0..2_000 {
        // One client tries half of them, and as many others the rest.
        let client = if number % 2 == 0 { 7 } else { 100 + number };
        match ask(&passwords, client, &hash, &format!("wrong {number}")) {
            Asked::Wait(receiver) => waiting.push(receiver),
            Asked::TooMany => too_many += 1,
            Asked::Full => full += 1,
            Asked::Known(verdict) => panic!("{verdict:?}"),
        }
        known +=
            u32::from(matches!(ask(&passwords, 1, &hash, "secret"), Asked::Known(Verdict::Right)));
    }
    let asked = begun.elapsed();
    assert_eq!(known, 2_000, "who is known waits for nobody");
    assert!(too_many > 0, "one client has its share");
    assert!(full > 0 && waiting.len() <= QUEUE + 64, "{full} refused, {} wait", waiting.len());
    let (accepted, mut late) = (waiting.len(), 0);
    for receiver in waiting {
        match receiver.blocking_recv().unwrap() {
            Verdict::Wrong => {}
            Verdict::Late => late += 1,
            Verdict::Right => panic!("a wrong password is right"),
        }
    }
    println!(
        "2000 wrong bcrypt passwords of cost 10: {accepted} taken, {too_many} refused to one client, {full} to all, \
         {late} not looked at in time; asking took {asked:?}, the last answer came after {:?}, one thread of nice {NICE}",
        begun.elapsed()
    );
}

#[test]
fn the_threads_end_with_the_last_handle() {
    let passwords = Passwords::with_threads(1).unwrap();
    let shared = Arc::downgrade(&passwords.0.0);
    let hash = hash("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=");
    wait(ask(&passwords, 1, &hash, "x"));
    drop(passwords);
    let deadline = Instant::now() + Duration::from_secs(60);
    while shared.strong_count() > 0 {
        assert!(Instant::now() < deadline, "a thread goes on");
        thread::sleep(Duration::from_millis(5));
    }
}
