//! Dispatch of commands, and what ssh does to their words, input, output and exit status.

use super::probe::Probe;
use crate::support::World;

#[test]
fn commands_over_ssh() {
    let world = World::without_plugin();
    let host = &world.source;
    let subcommands = [
        ("subcommands/words", r#"for word; do printf '[%s]' "$word"; done"#),
        ("subcommands/git-words", r#"for word; do printf '[%s]' "$word"; done"#),
        ("subcommands/ends", "exit $2"),
        (
            "subcommands/where",
            r#"echo "$PWD $NAME $SSH_NAME ${SSH_ORIGINAL_COMMAND-unset}"; echo "$DOKKU_ROOT|$DOKKU_LIB_ROOT|$PLUGIN_CORE_AVAILABLE_PATH|$PLUGIN_ENABLED_PATH|$DOKKU_NOT_IMPLEMENTED_EXIT""#,
        ),
        ("subcommands/default", "echo default $*"),
        (
            "commands",
            r#"case $1 in probe-own) echo mine ;; help) echo '    probe:words, Words' ;; *) exit $DOKKU_NOT_IMPLEMENTED_EXIT ;; esac"#,
        ),
    ];
    let _probe = Probe::install(host, "probe", &subcommands);
    let show = |line: &str| world.ssh(host, line).succeeds().raw;

    // Words: quoted twice they arrive, a lone flag of `echo` vanishes, nothing reaches a shell.
    assert_eq!(show("probe:words a '' 'two words'"), "[probe:words][a][][two words]");
    assert_eq!(show("probe:words a -n $(id) `id` ; >x"), "[probe:words][a][$(id)][`id`][;][>x]");
    assert_eq!(host.dokku(&["--quiet", "probe:words", "a"]).succeeds().raw, "[probe:words][a]");
    // Half a quotation drops words in silence, and the command runs.
    assert!(show("probe:words a 'unbalanced b").contains("[probe:words][a]"));
    // Where a command's name has "git" in it, blanks alone take it apart.
    assert_eq!(show("probe:git-words a 'two words'"), "[probe:git-words][a]['two][words']");

    for status in [0, 1, 7, 255] {
        world.ssh(host, &format!("probe:ends {status}")).exits_with(status);
    }
    let place = show("probe:where");
    let (first, second) = place.trim().split_once('\n').expect("two lines");
    let root = host.root("echo $DOKKU_ROOT").succeeds().raw.trim().to_owned();
    let key = world.operator();
    assert_eq!(first, format!("{root} {key} {key} unset"));
    assert!(second.starts_with(&format!("{root}|")) && second.ends_with("|10"), "{second}");
    assert!(second.split('|').all(|value| !value.is_empty()), "{second}");

    // What no subcommand is goes to each plugin's `commands`; what is nobody's is an error.
    assert_eq!(show("probe hello"), "default probe hello\n");
    assert_eq!(show("probe-own"), "mine\n");
    world.ssh(host, "probe:nothing").exits_with(1).says("is not a dokku command");
    world.ssh(host, "plugin:install x").exits_with(1).says("This command must be run as root");
}

#[test]
fn a_forced_command_of_a_key_is_given_what_was_asked_for_as_one_word() {
    let world = World::without_plugin();
    let host = &world.source;
    let shows =
        r#"printf '[%s]' "$GRADUATE_WANTED" "${SSH_ORIGINAL_COMMAND-unset}" "$NAME" "$SSH_USER" "$*""#;
    let _probe = Probe::install(host, "probe", &[("subcommands/forced", shows)]);
    let key = world.directory_on(host, "keys") + "/key";
    let fingerprint = host.root(&format!(
        r#"ssh-keygen -q -t ed25519 -N '' -f {key} && fingerprint=$(ssh-keygen -lf {key} | cut -d ' ' -f 2) && printf \
           'command="FINGERPRINT=%s NAME=\\"probe\\" `echo env` SSH_ORIGINAL_COMMAND= GRADUATE_WANTED=\\"$SSH_ORIGINAL_COMMAND\\" %s probe:forced",restrict %s\n' \
           "$fingerprint" "$(cat "$DOKKU_ROOT/.sshcommand")" "$(cut -d ' ' -f 1,2 {key}.pub)" >>"$DOKKU_ROOT/.ssh/authorized_keys" && echo $fingerprint"#
    ));
    let fingerprint = fingerprint.succeeds().raw.trim().to_owned();
    let options =
        "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    let asks = |words: &str| {
        host.root(&format!("ssh -n -i {key} -o IdentitiesOnly=yes {options} {} {words}", host.url()))
            .succeeds()
            .raw
    };
    // No shell and no Dokku takes it apart, the user is Dokku's, and Dokku runs its own arguments.
    assert_eq!(asks("'$(id) *; `id` \"x'"), "[$(id) *; `id` \"x][][probe][dokku][probe:forced]");
    assert_eq!(asks("apps:list --quiet"), "[apps:list --quiet][][probe][dokku][probe:forced]");
    assert_eq!(asks(""), "[][][probe][dokku][probe:forced]");
    assert!(host.dokku(&["probe:forced"]).succeeds().raw.contains("[root][probe:forced]"), "root is known");
    // Dokku's own commands find the line by its name.
    let listed = || host.dokku(&["ssh-keys:list"]).succeeds();
    listed().says(&format!("{fingerprint} NAME=\"probe\" SSHCOMMAND_ALLOWED_KEYS=\"restrict\""));
    host.root(&format!("dokku ssh-keys:add probe <{key}.pub")).exits_with(1);
    host.dokku(&["ssh-keys:remove", "probe"]).succeeds();
    listed().does_not_say("probe");
}

#[test]
fn git_reaches_a_plugin_that_is_named_like_its_command() {
    let world = World::without_plugin();
    let host = &world.source;
    let serve = r#"shift
case $1 in
    "'/own'" | "'own'") git-receive-pack "$DOKKU_ROOT/.own.git"; exit 1 ;;
    *) exec "$PLUGIN_CORE_AVAILABLE_PATH/git/commands" git-receive-pack "$@" ;;
esac"#;
    let _probe = Probe::install(host, "git-receive-pack", &[("subcommands/default", serve)]);
    super::probe::as_dokku(&world, "git init -q --bare \"$DOKKU_ROOT/.own.git\"").succeeds();

    // An ordinary push goes on through it; an app that there is not is made by it.
    let version = world.app("api").version("1").push();
    assert_eq!(super::probe::loose(&world, "api", "master"), Some(version.revision.clone()));
    // Its own repository: what ends with 1 after git has taken the tag is a push that ends with 1.
    let tree = world.path("apps/api");
    let git = |args: &[&str]| {
        let mut git = world.command("git");
        git.arg("-C").arg(&tree).args(args);
        world.run(git)
    };
    git(&["tag", "now"]).succeeds();
    git(&["push", &host.repository("own"), "now"]).exits_with(1).says("[new tag]");
    assert!(host.read(".own.git/refs/tags/now").is_some());
    host.root("rm -rf \"$DOKKU_ROOT/.own.git\"").succeeds();
}
