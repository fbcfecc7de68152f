use super::*;

fn vars(dir: &Path) -> Vars {
    Vars { lib_root: dir.to_owned(), ..Vars::from_environment() }
}

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let vars = vars(dir.path());
    assert_eq!(Settings::load(&vars).unwrap(), Settings::default());
    let url: Address = "ssh://ops@prod:2222".parse().unwrap();
    let change = |settings: &mut Settings| -> Result<(), SettingsError> {
        assert!(settings.add_environment(&name("production"), &url)?);
        assert!(!settings.add_environment(&name("production"), &url)?);
        settings.add_hook(HookKind::Post, "curl -fsS example.com")?;
        settings.set_property(Some(&name("production")), Property::MaxParallel, Some("4"))?;
        settings.set_property(None, Property::AutoCommit, Some("true"))
    };
    Settings::change(&vars, change).unwrap();
    let settings = Settings::load(&vars).unwrap();
    assert_eq!(settings.environment(&name("production")).unwrap().url, url);
    assert_eq!(settings.for_environment(&name("production")).max_parallel, 4);
    assert_eq!(settings.for_environment(&name("other")).max_parallel, 2);
    assert_eq!(settings.hooks(HookKind::Post), ["curl -fsS example.com"]);
    assert!(settings.auto_commit() && settings.hooks(HookKind::Pre).is_empty());
}

#[test]
fn a_change_that_fails_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let vars = vars(dir.path());
    let change = |settings: &mut Settings| {
        settings.add_hook(HookKind::Pre, "true")?;
        settings.remove_hook(HookKind::Pre, 2)
    };
    let error = Settings::change(&vars, change).unwrap_err();
    assert_eq!(error.to_string(), "there is no PRE hook 2; there is 1");
    assert!(!path(&vars).exists());
    assert!(Settings::default().add_hook(HookKind::Pre, "a\nb").is_err());
    assert!(Settings::default().remove_hook(HookKind::Pre, 0).is_err());
}

#[test]
fn a_file_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let vars = vars(dir.path());
    files::make_dir(&vars.data()).unwrap();
    std::fs::write(path(&vars), r#"{"version":2,"new":{}}"#).unwrap();
    let error = Settings::load(&vars).unwrap_err().to_string();
    assert!(error.contains("its version is 2, and this plugin reads version 1"), "{error}");
    std::fs::write(path(&vars), r#"{"version":1,"new":{}}"#).unwrap();
    assert!(Settings::load(&vars).unwrap_err().to_string().contains("unknown field"));
}

#[test]
fn an_unknown_environment_is_answered_with_the_known_ones() {
    let mut settings = Settings::default();
    let ask = |settings: &Settings| settings.environment(&name("prod")).unwrap_err().to_string();
    assert_eq!(ask(&settings), "no environment is called prod; there is none yet");
    for each in ["uat", "staging"] {
        settings.add_environment(&name(each), &"example.com".parse().unwrap()).unwrap();
    }
    assert_eq!(ask(&settings), "no environment is called prod; there are staging, uat");
}

#[test]
fn wrong_words_are_wrong_usage_and_all_else_a_refusal() {
    let property = PropertyError::Unknown("colour".to_owned());
    assert_eq!(SettingsError::from(property).exit_status(), ExitStatus::Usage);
    assert_eq!(SettingsError::HookCommand(String::new()).exit_status(), ExitStatus::Usage);
    assert_eq!(SettingsError::Busy(None).exit_status(), ExitStatus::Refused);
    let rule = |source| SettingsError::Rule { environment: "production".parse().unwrap(), source };
    let stars = RuleError::Stars("a-*".parse().unwrap(), "b".parse().unwrap());
    assert_eq!(rule(stars).exit_status(), ExitStatus::Usage);
    assert_eq!(rule(RuleError::Unknown("a-*".to_owned())).exit_status(), ExitStatus::Refused);
}
