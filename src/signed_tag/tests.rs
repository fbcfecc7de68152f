//! Tags as git makes them, and others.

use super::*;

/// Made by `git tag -s` with `gpg.format` ssh.
const SIGNED: &str = "\
object 9d57c4d0ab914e37cac1e772e05c91c66a565f9c
type commit
tag graduate/production/now
tagger B <b@x> 1796100425 +0000

hi
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg6Ru7fOGp4iGJmbBF6cbaOJjnyU
NUPfrGKIbKLR6nZDoAAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5
AAAAQPH9knQnMdahDo40Pc4izSb1hcng68PkqnKvCBqaiq/QxErJ50+WeaP9FTQtvFWTv9
Wylcpecvq7UtntW8tlgAs=
-----END SSH SIGNATURE-----
";

fn request() -> RequestTag {
    "refs/tags/graduate/production/now".parse().unwrap()
}

#[test]
fn what_git_has_signed_is_taken_apart() {
    let tag = parse(SIGNED.as_bytes()).unwrap();
    assert_eq!(tag.name, "graduate/production/now");
    assert_eq!(tag.object.to_string(), OBJECT);
    assert!(tag.names_commit);
    assert_eq!(tag.tagged.timestamp(), 1_796_100_425);
    assert!(tag.payload.ends_with(b"\n\nhi\n"));
    assert_eq!([tag.payload, tag.signature].concat(), SIGNED.as_bytes());
    assert_eq!(
        tag.key.to_string(),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOkbu3zhqeIhiZmwRenG2jiY58lDVD36xiiGyi0ep2Q6"
    );
}

const OBJECT: &str = "9d57c4d0ab914e37cac1e772e05c91c66a565f9c";

#[test]
fn what_git_does_not_write_is_refused() {
    let changed = |from: &str, to: &str| {
        assert!(SIGNED.contains(from), "{from}");
        SIGNED.replacen(from, to, 1)
    };
    for (text, expected) in [
        (String::new(), "is not signed"),
        (SIGNED.split("-----BEGIN").next().unwrap().to_owned(), "is not signed"),
        (changed("-----BEGIN SSH SIGNATURE", "-----BEGIN PGP SIGNATURE"), "OpenPGP"),
        (format!("{SIGNED}-----BEGIN PGP SIGNATURE-----\n"), "OpenPGP"),
        // The same signature, encoded differently, would make another object of the same tag.
        (format!("{SIGNED}\n"), "something follows it"),
        (format!("{SIGNED}x"), "something follows it"),
        (SIGNED.trim_end().to_owned(), "something follows it"),
        (changed("U1NIU0lH", "U1NI\nU0lH"), "as ssh-keygen writes it"),
        (changed("U1NIU0lH", " U1NIU0lH"), "as ssh-keygen writes it"),
        (changed("U1NIU0lHAAAAAQ", "U1NIU0lHAAAAAg"), "unknown version"),
        (changed("LWVkMjU1MTkA", "LWVkMjU1MTgA"), "a kind that is not accepted"),
        (changed("\ntype commit", "\ntype  commit\nextra x"), "other lines than git writes"),
        (changed("object ", "object 0"), "other lines than git writes"),
        (changed("\ntagger ", "\nTagger "), "other lines than git writes"),
        (changed(" +0000\n", " +000\n"), "other lines than git writes"),
        (changed(" +0000\n", " +0000\ngpgsig-sha256 x\n"), "other lines than git writes"),
        (format!("{}{SIGNED}", "x".repeat(MAX_TAG)), "larger than 64 KiB"),
    ] {
        let problem = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(problem.contains(expected), "{expected}: {problem}\n{text}");
    }
    // As in git, the last beginning counts; the text before it is signed.
    let twice = changed("\n\nhi\n", "\n\n-----BEGIN SSH SIGNATURE-----\nhi\n");
    assert!(parse(twice.as_bytes()).unwrap().payload.ends_with(b"hi\n"));
}

#[test]
fn a_tag_counts_for_one_ref_and_one_commit_and_is_not_of_the_future() {
    let tag = parse(SIGNED.as_bytes()).unwrap();
    let (at, commit) = (tag.tagged, tag.object);
    let later = |seconds| at + TimeDelta::seconds(seconds);
    let check =
        |tag: &SignedTag<'_>, now| tag.check(&request(), commit, now).map_err(|problem| problem.to_string());
    assert_eq!(check(&tag, at), Ok(()));
    assert_eq!(check(&tag, later(90_000)), Ok(()));
    assert_eq!(check(&tag, later(-300)), Ok(()), "a clock may be ahead a little");
    assert!(check(&tag, later(-301)).unwrap_err().contains("a clock is wrong"));
    let other = SignedTag { name: "graduate/production/then", ..tag.clone() };
    assert!(check(&other, at).unwrap_err().contains("another name, \"graduate/production/then\""));
    let nested = SignedTag { names_commit: false, ..tag.clone() };
    assert!(check(&nested, at).unwrap_err().contains("another object"));
    let elsewhere = SignedTag { object: "a".repeat(40).parse().unwrap(), ..tag };
    assert!(check(&elsewhere, at).unwrap_err().contains("another object"));
}
