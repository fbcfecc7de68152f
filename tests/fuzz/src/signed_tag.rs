//! The text of a tag object that somebody pushes: `signed_tag.rs`.

use dokku_graduate::exposed::signed_tag::{MAX_TAG, SignedTag, TagProblem, parse};

pub(crate) const WORDS: &[&str] = &[
    "object 9d57c4d0ab914e37cac1e772e05c91c66a565f9c\n",
    "type commit\n",
    "type tag\n",
    "tag graduate/production/now\n",
    "tagger B <b@x> 1796100425 +0000\n",
    "\n",
    "=",
    "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg",
    "-----BEGIN SSH SIGNATURE-----\n",
    "-----END SSH SIGNATURE-----\n",
    "-----BEGIN PGP SIGNATURE-----\n",
    "gpgsig-sha256 ",
];

const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----\n";

pub(crate) fn feed(data: &[u8]) {
    let tag = match parse(data) {
        Ok(tag) => tag,
        Err(problem) => {
            assert!(problem.to_string().len() < 500, "a problem of {} bytes", problem.to_string().len());
            let is_signed = data.windows(BEGIN.len() - 1).any(|line| *line == BEGIN[..BEGIN.len() - 1]);
            assert!(problem != TagProblem::Unsigned || !starts_a_line(data) || !is_signed, "it is signed");
            return;
        }
    };
    is_as_git_takes_it(data, &tag);
    // There is no second text of the same signature: what surrounds it or breaks its lines makes it another one.
    for other in [[data, b"\n"].concat(), data[..data.len() - 1].to_vec()] {
        assert!(parse(&other).is_err(), "another text has the same signature");
    }
}

fn starts_a_line(data: &[u8]) -> bool {
    data.split(|byte| *byte == b'\n').any(|line| line.starts_with(&BEGIN[..BEGIN.len() - 1]))
}

/// Says so in other words than the product's.
fn is_as_git_takes_it(data: &[u8], tag: &SignedTag<'_>) {
    assert!(data.len() <= MAX_TAG, "larger than a tag may be");
    assert_eq!([tag.payload, tag.signature].concat(), data, "something is neither signed nor signature");
    assert!(tag.signature.starts_with(BEGIN), "it does not begin as a signature");
    assert!(!starts_a_line(&tag.signature[BEGIN.len()..]), "git would take a later signature");
    let kind = if tag.names_commit { "commit" } else { "" };
    let header = format!("object {}\ntype {kind}", tag.object);
    assert!(tag.payload.starts_with(header.as_bytes()), "it names another object");
    let name = format!("\ntag {}\ntagger ", tag.name);
    assert!(tag.payload.windows(name.len()).any(|part| part == name.as_bytes()), "it has another name");
}
