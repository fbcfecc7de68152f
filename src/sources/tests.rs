use std::os::unix::fs::PermissionsExt;

use super::ordinary::MAX_NOTED;
use super::*;
use crate::process::Program;

/// A host in one directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.0.path().join("home/.ssh")).unwrap();
        fs::write(place.0.path().join("home/.sshcommand"), "/usr/bin/dokku\n").unwrap();
        place
    }

    fn vars(&self) -> Vars {
        let (home, lib) = (self.0.path().join("home"), self.0.path().join("lib"));
        Vars { dokku_root: home, lib_root: lib, ..Vars::from_environment() }
    }

    fn keys(&self) -> PathBuf {
        self.0.path().join("home/.ssh/authorized_keys")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.keys()).unwrap_or_default()
    }

    fn accept(&self, name: &str, key: &PublicKey) -> Result<AcceptedAs, SourceError> {
        accept(&self.vars(), &name.parse().unwrap(), key, "api,web-*".parse().unwrap())
    }
}

fn key(name: &str) -> PublicKey {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    Program::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).run().unwrap();
    fs::read_to_string(path.with_extension("pub")).unwrap().parse().unwrap()
}

/// A line as `ssh-keys:add` writes it.
fn dokkus(name: &str, key: &PublicKey) -> String {
    format!(
        "command=\"FINGERPRINT={} NAME=\\\"{name}\\\" `cat /home/dokku/.sshcommand` $SSH_ORIGINAL_COMMAND\",\
         no-port-forwarding {key} {name}@example.com\n",
        key.fingerprint()
    )
}

#[test]
fn a_new_line_stands_behind_those_of_others() {
    let (place, own, alice) = (Place::new(), key("own"), key("alice"));
    let others = dokkus("alice", &alice);
    // The last line has no line break.
    fs::write(place.keys(), others.trim_end()).unwrap();
    fs::set_permissions(place.keys(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.accept("staging", &own).unwrap(), AcceptedAs::New);
    let line = authorized::line(&"staging".parse().unwrap(), &own, Path::new("/usr/bin/dokku"));
    assert_eq!(place.text(), format!("{others}{line}\n"));
    assert_eq!(fs::metadata(place.keys()).unwrap().permissions().mode() & 0o777, 0o700);
    let all = all(&place.vars()).unwrap();
    assert_eq!((all.len(), all[0].fingerprint.clone()), (1, own.fingerprint()));
    assert_eq!(all[0].only.to_string(), "api, web-*");
    assert_eq!(unpaired(&place.vars()).unwrap(), []);
}

#[test]
fn what_others_have_written_stays_in_whatever_encoding() {
    let (place, own, alice) = (Place::new(), key("own"), key("alice"));
    let others = [dokkus("alice", &alice).trim_end().as_bytes(), b" M\xfcller\r\n# \xe2\n"].concat();
    fs::write(place.keys(), &others).unwrap();
    place.accept("staging", &own).unwrap();
    let with_ours = fs::read(place.keys()).unwrap();
    assert!(with_ours.starts_with(&others) && with_ours.len() > others.len());
    assert_eq!(unpaired(&place.vars()).unwrap(), []);
    assert_eq!(ordinary_keys(&place.vars()).unwrap().len(), 1);
    reject(&place.vars(), &"staging".parse().unwrap()).unwrap();
    assert_eq!(fs::read(place.keys()).unwrap(), others);
}

#[test]
fn the_same_name_takes_a_new_key_and_the_same_key_loses_its_old_line() {
    let (place, own, other, alice) = (Place::new(), key("own"), key("other"), key("alice"));
    let others = dokkus("alice", &alice);
    fs::write(place.keys(), format!("{}{others}", dokkus("graduate-staging", &own))).unwrap();
    let before = AcceptedAs::InsteadOf("graduate-staging".to_owned());
    assert_eq!(place.accept("staging", &own).unwrap(), before);
    assert_eq!(place.accept("staging", &own).unwrap(), AcceptedAs::Again);
    assert_eq!(place.accept("staging", &other).unwrap(), AcceptedAs::Again);
    let line = authorized::line(&"staging".parse().unwrap(), &other, Path::new("/usr/bin/dokku"));
    assert_eq!(place.text(), format!("{line}\n{others}"), "the place of a line stays");
    assert_eq!(
        find(&place.vars(), &"staging".parse().unwrap()).unwrap().unwrap().fingerprint,
        other.fingerprint()
    );
    // Under the same name as before.
    assert_eq!(place.accept("alice", &alice).unwrap(), AcceptedAs::InsteadOf("alice".to_owned()));
    assert_eq!(place.text().lines().count(), 2);
}

#[test]
fn what_belongs_to_others_is_refused_and_stays() {
    let (place, own, alice) = (Place::new(), key("own"), key("alice"));
    let refuses = |lines: &str, name: &str, why: &str| {
        fs::write(place.keys(), lines).unwrap();
        let error = place.accept(name, &own).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(place.text(), lines);
    };
    refuses(&dokkus("staging", &alice), "staging", "the name staging is that of another key");
    refuses(&format!("{own} root@x\n"), "staging", "line 1 of ");
    refuses(
        &format!("no-pty,command=\"echo x y\" {own}\n"),
        "staging",
        "accepts that key for another purpose",
    );
    fs::write(place.keys(), "").unwrap();
    place.accept("staging", &own).unwrap();
    refuses(&place.text(), "other", "that key is accepted as staging already");
    fs::write(place.0.path().join("home/.sshcommand"), "dokku; id\n").unwrap();
    refuses("", "staging", "cannot tell which program is Dokku's");
}

#[test]
fn a_source_has_so_many_sessions_open_and_no_more() {
    let place = Place::new();
    let (vars, staging) = (place.vars(), "staging".parse().unwrap());
    fs::create_dir_all(dir(&vars)).unwrap();
    // Each of them is open as long as this process runs.
    for _ in 0..MAX_OPEN {
        assert!(note_session(&vars, &staging, None).unwrap());
    }
    assert!(!note_session(&vars, &staging, None).unwrap());
    assert!(note_session(&vars, &"eu".parse().unwrap(), None).unwrap(), "others have their own");
    let mut known = sessions(&vars, &staging);
    known.open.pop();
    // Like a session that has ended.
    known.open[0].start += 1;
    files::write_json_unsynced(&sessions::file(&vars, &staging), &known).unwrap();
    assert!(note_session(&vars, &staging, None).unwrap());
}

#[test]
fn a_rejected_source_leaves_nothing() {
    let (place, own, other, alice) = (Place::new(), key("own"), key("other"), key("alice"));
    let (vars, staging) = (place.vars(), "staging".parse().unwrap());
    let others = dokkus("alice", &alice);
    fs::write(place.keys(), &others).unwrap();
    assert!(matches!(reject(&vars, &staging), Err(SourceError::Unknown(_))));
    place.accept("staging", &own).unwrap();
    note_session(&vars, &staging, Some("apps:list")).unwrap();
    assert_eq!(sessions(&vars, &staging).last_refused.unwrap().asked, "apps:list");
    reject(&vars, &staging).unwrap();
    assert_eq!((place.text(), all(&vars).unwrap()), (others.clone(), Vec::new()));
    assert_eq!(fs::read_dir(dir(&vars)).unwrap().count(), 0);
    place.accept("staging", &own).unwrap();
    place.accept("eu", &other).unwrap();
    let with_both = place.text();
    // The plugin is removed and installed again.
    assert_eq!(withdraw(&vars).unwrap().len(), 2);
    assert_eq!(place.text(), others);
    reject(&vars, &staging).unwrap();
    assert_eq!(give_back(&vars).unwrap(), ["eu".parse().unwrap()]);
    let without_staging: String =
        with_both.lines().filter(|line| !line.contains("staging")).map(|line| format!("{line}\n")).collect();
    assert_eq!(place.text(), without_staging);
    // A source whose key Dokku has removed is not accepted again when any plugin is installed.
    fs::write(place.keys(), &others).unwrap();
    assert_eq!((give_back(&vars).unwrap(), place.text()), (Vec::new(), others));
}

#[test]
fn lines_and_files_that_do_not_belong_together_are_found() {
    let (place, own, other) = (Place::new(), key("own"), key("other"));
    let (vars, staging) = (place.vars(), || "staging".parse().unwrap());
    place.accept("staging", &own).unwrap();
    let good = place.text();
    fs::write(place.keys(), "").unwrap();
    assert_eq!(unpaired(&vars).unwrap(), [Unpaired::File(staging())]);
    let altered = Unpaired::Altered(find(&vars, &staging()).unwrap().unwrap());
    fs::write(place.keys(), good.replace(",restrict", "")).unwrap();
    assert_eq!(unpaired(&vars).unwrap(), std::slice::from_ref(&altered));
    fs::write(place.keys(), format!("{}{good}", dokkus("alice", &own))).unwrap();
    assert_eq!(unpaired(&vars).unwrap(), std::slice::from_ref(&altered));
    // Another key in the line of the accepted one.
    fs::write(place.keys(), good.replace(&own.to_string(), &other.to_string())).unwrap();
    assert_eq!(unpaired(&vars).unwrap(), [altered]);
    fs::write(
        place.keys(),
        format!("{good}{}\n", authorized::line(&staging(), &other, Path::new("/usr/bin/dokku"))),
    )
    .unwrap();
    assert_eq!(unpaired(&vars).unwrap(), [Unpaired::Line("staging".to_owned())]);
    fs::write(place.keys(), &good).unwrap();
    fs::remove_file(file(&vars, &staging())).unwrap();
    assert_eq!(unpaired(&vars).unwrap(), [Unpaired::Line("staging".to_owned())]);
}

#[test]
fn ordinary_keys_that_graduate_are_remembered_as_long_as_they_are_ordinary() {
    let (place, own, alice) = (Place::new(), key("own"), key("alice"));
    let vars = place.vars();
    fs::write(place.keys(), format!("{}{}", dokkus("graduate-staging", &own), dokkus("alice", &alice)))
        .unwrap();
    assert_eq!(ordinary(&vars).unwrap(), []);
    fs::create_dir_all(vars.data()).unwrap();
    let noted = NamedKey { name: "graduate-staging".to_owned(), fingerprint: own.fingerprint().to_owned() };
    note_ordinary(&vars, &noted).unwrap();
    assert_eq!(ordinary(&vars).unwrap(), [(noted, own.to_string())]);
    place.accept("staging", &own).unwrap();
    assert_eq!(ordinary(&vars).unwrap(), []);
    for number in 0..2 * MAX_NOTED {
        let fingerprint = format!("SHA256:{number}");
        note_ordinary(&vars, &NamedKey { name: "x".to_owned(), fingerprint }).unwrap();
    }
    let kept: std::collections::BTreeMap<String, DateTime<Utc>> =
        files::read_json(&ordinary::file(&vars)).unwrap().unwrap();
    assert_eq!(kept.len(), MAX_NOTED);
}

#[test]
fn what_was_asked_is_shown_harmless_and_short() {
    assert_eq!(shown(b"apps:list\n\x1b[2Jx"), "apps:list \u{fffd}[2Jx");
    assert_eq!(shown(&[b'a'; 100_000]).len(), 203);
    assert_eq!(shown(b"\xff\0"), "\u{fffd}\u{fffd}");
    assert_eq!(shown(b""), "");
}
