//! The command line as people and Dokku see it: help, usage errors, settings, and linking over a real sshd.

use std::fs;

use snapbox::{assert_data_eq, str};

use crate::support::{LoneHost, Sshd};

const HELLO: &str =
    r#"echo '{"type":"hello","protocol":5,"version":"0.1.0","host":"prod-1"}'; cat >/dev/null"#;

#[test]
fn help_lists_every_command() {
    let world = LoneHost::new();
    let help = world.dokku(&["graduate:help"]);
    assert_data_eq!(
        &help,
        str![[r#"
stdout:
Usage: dokku graduate[:COMMAND]

Promote a whole environment at once: every app goes live together or none does

Commands (each has --help):
    graduate <environment> [<revision>] [--yes] [--plan] [--hold] [--option <option>]      Graduate a state of this host to an environment: every app goes live together or none does
    graduate:abort [<environment>] [--incoming]                                            Stop a graduation that is not decided or not confirmed yet and put everything back
    graduate:accept <name> [--only <patterns>]                                             Let the key of a source graduate to this host and do nothing else
    graduate:add-environment <name> <url> [--fingerprint <fingerprint>]                    Link an environment: pin its host key and test the link
    graduate:add-hook <PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING> <command>                 Add a hook that runs before a graduation or when all apps are held or are live or when it is confirmed or has failed
    graduate:commit [--message <message>] [--runs <app=revision>]                          Commit the state of this environment as it is now
    graduate:confirm <environment>                                                         Confirm what is live before the end of its soak
    graduate:diff <environment> [<revision>] [--all] [--format <text|json>]                Show how a state differs from what an environment is: revisions and config names and other settings
    graduate:doctor [<environment>] [--format <text|json>]                                 Examine the installation and each link and print a remedy for each problem
    graduate:environments [--format <text|json>]                                           List the environments as `<name>=<url>`
    graduate:freeze [<environment>] [<reason>] [--incoming <reason>]                       Refuse graduations to an environment and say why
    graduate:go <environment>                                                              Let a graduation that waits for a person go live
    graduate:held <environment> [--format <text|json>]                                     List what is held for a graduation in progress and until when it waits
    graduate:help                                                                          List the commands
    graduate:hooks [<PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING>] [--format <text|json>]     List hooks with their indexes
    graduate:key                                                                           Print the public key that a destination must accept
    graduate:logs [<id|environment>] [--follow] [--app <app>]                              Show the log of a graduation; by default of the latest one
    graduate:map <environment> [<from>] [<to>] [--format <text|json>]                      Give the apps of an environment other names; without patterns list the rules
    graduate:plan <environment> [<revision>] [--option <option>] [--format <text|json>]    Show what a graduation would do
    graduate:recover [<environment>] [--incoming]                                          Settle a graduation that was left in doubt: finish it or undo it
    graduate:reject <name>                                                                 Stop a source from graduating to this host
    graduate:releases <environment> [--limit <count>] [--format <text|json>]               List the releases of an environment
    graduate:report [<environment>] [--format <text|json>]                                 Show what is set for the environments
    graduate:rm-environment <name>                                                         Forget an environment and its pinned host key
    graduate:rm-hook <PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING> <index>                    Remove a hook by its index
    graduate:rollback <environment> [<release>] [--yes] [--despite-freeze]                 Go back to the release before or to a given one: every app goes back together or none does
    graduate:set <environment|--global> <property> [<value>]                               Set a property of an environment or of all; no value resets it
    graduate:signers [<add|list|remove>] [<name>] [--until <date>] [--format <text|json>]  List or change whose signatures of request tags are accepted
    graduate:sources [--format <text|json>]                                                List the sources that may graduate to this host
    graduate:status [<environment>] [--format <text|json>]                                 Show which revision of which app runs where
    graduate:unfreeze [<environment>] [--incoming]                                         Let graduations to an environment pass again
    graduate:unmap <environment> <index|from>                                              Remove a rule of an environment's mapping
exit status 0

"#]]
    );
    assert_eq!(world.dokku(&["graduate"]), help);
    assert_eq!(world.called_as("plugin/commands", &["graduate:help"]), help);
}

#[test]
fn dokku_gets_its_columns_and_its_status() {
    let world = LoneHost::new();
    assert_data_eq!(
        world.called_as("plugin/commands", &["help"]),
        str![[r#"
stdout:
    graduate <environment> [<revision>] [--yes] [--plan] [--hold] [--option <option>], Graduate a state of this host to an environment: every app goes live together or none does
    graduate:abort [<environment>] [--incoming], Stop a graduation that is not decided or not confirmed yet and put everything back
    graduate:accept <name> [--only <patterns>], Let the key of a source graduate to this host and do nothing else
    graduate:add-environment <name> <url> [--fingerprint <fingerprint>], Link an environment: pin its host key and test the link
    graduate:add-hook <PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING> <command>, Add a hook that runs before a graduation or when all apps are held or are live or when it is confirmed or has failed
    graduate:commit [--message <message>] [--runs <app=revision>], Commit the state of this environment as it is now
    graduate:confirm <environment>, Confirm what is live before the end of its soak
    graduate:diff <environment> [<revision>] [--all] [--format <text|json>], Show how a state differs from what an environment is: revisions and config names and other settings
    graduate:doctor [<environment>] [--format <text|json>], Examine the installation and each link and print a remedy for each problem
    graduate:environments [--format <text|json>], List the environments as `<name>=<url>`
    graduate:freeze [<environment>] [<reason>] [--incoming <reason>], Refuse graduations to an environment and say why
    graduate:go <environment>, Let a graduation that waits for a person go live
    graduate:held <environment> [--format <text|json>], List what is held for a graduation in progress and until when it waits
    graduate:help, List the commands
    graduate:hooks [<PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING>] [--format <text|json>], List hooks with their indexes
    graduate:key, Print the public key that a destination must accept
    graduate:logs [<id|environment>] [--follow] [--app <app>], Show the log of a graduation; by default of the latest one
    graduate:map <environment> [<from>] [<to>] [--format <text|json>], Give the apps of an environment other names; without patterns list the rules
    graduate:plan <environment> [<revision>] [--option <option>] [--format <text|json>], Show what a graduation would do
    graduate:recover [<environment>] [--incoming], Settle a graduation that was left in doubt: finish it or undo it
    graduate:reject <name>, Stop a source from graduating to this host
    graduate:releases <environment> [--limit <count>] [--format <text|json>], List the releases of an environment
    graduate:report [<environment>] [--format <text|json>], Show what is set for the environments
    graduate:rm-environment <name>, Forget an environment and its pinned host key
    graduate:rm-hook <PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING> <index>, Remove a hook by its index
    graduate:rollback <environment> [<release>] [--yes] [--despite-freeze], Go back to the release before or to a given one: every app goes back together or none does
    graduate:set <environment|--global> <property> [<value>], Set a property of an environment or of all; no value resets it
    graduate:signers [<add|list|remove>] [<name>] [--until <date>] [--format <text|json>], List or change whose signatures of request tags are accepted
    graduate:sources [--format <text|json>], List the sources that may graduate to this host
    graduate:status [<environment>] [--format <text|json>], Show which revision of which app runs where
    graduate:unfreeze [<environment>] [--incoming], Let graduations to an environment pass again
    graduate:unmap <environment> <index|from>, Remove a rule of an environment's mapping
exit status 0

"#]]
    );
    assert_data_eq!(
        world.called_as("plugin/commands", &["apps:list"]),
        str![[r#"
exit status 10

"#]]
    );
}

#[test]
fn wrong_usage_is_told_with_the_usage() {
    let world = LoneHost::new();
    assert_data_eq!(
        world.dokku(&["graduate:add-environment", "production"]),
        str![[r#"
stderr:
 !     the following required arguments were not provided:
         <URL>

       Usage: dokku graduate:add-environment <NAME> <URL>

       For more information, try '--help'.
       hint: `dokku graduate:help` lists the commands
exit status 2

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:add-environment", "production", "-oProxyCommand=id"]),
        str![[r#"
stderr:
 !     unexpected argument '-o' found

         tip: to pass '-o' as a value, use '-- -o'

       Usage: dokku graduate:add-environment [OPTIONS] <NAME> <URL>

       For more information, try '--help'.
       hint: `dokku graduate:help` lists the commands
exit status 2

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:add-environment", "Production", "prod"]),
        str![[r#"
stderr:
 !     invalid value 'Production' for '<NAME>': "Production" is not the name of an environment: lower case letters, digits and '-', beginning with a letter or digit

       For more information, try '--help'.
       hint: `dokku graduate:help` lists the commands
exit status 2

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:add-hook", "DURING", "true"]),
        str![[r#"
stderr:
 !     invalid value 'DURING' for '<TYPE>'
         [possible values: PRE, POST, VERIFY, SUCCESS, FAILURE, INCOMING]

       For more information, try '--help'.
       hint: `dokku graduate:help` lists the commands
exit status 2

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:add-hook", "PRE", " "]),
        str![[r#"
stderr:
 !     a hook is one line with a command in it, not " "
exit status 2

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:rm-hook", "--help"]),
        str![[r#"
stdout:
Remove a hook by its index

Usage: dokku graduate:rm-hook <TYPE> <INDEX>

Arguments:
  <TYPE>
          Its type

          Possible values:
          - PRE:      Before anything is transferred
          - POST:     When every app is held, before the decision
          - VERIFY:   When it is live, before it is confirmed
          - SUCCESS:  When it is live and recorded
          - FAILURE:  When it had begun and is not live
          - INCOMING: On a destination, before it lets in what comes from elsewhere

  <INDEX>
          Its index, as `graduate:hooks` lists it; the first is 1

Options:
  -h, --help
          Print help (see a summary with '-h')
exit status 0

"#]]
    );
}

#[test]
fn hooks_are_added_listed_and_removed_by_index() {
    let world = LoneHost::new();
    assert_data_eq!(
        world.dokku(&["graduate:hooks", "PRE"]),
        str![[r#"
exit status 0

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:add-hook", "PRE", "curl", "-fsS", "https://example.com/freeze"]),
        str![[r#"
stderr:
-----> PRE hook 1 added
exit status 0

"#]]
    );
    world.dokku(&["graduate:add-hook", "PRE", "make check; test -n $CI"]);
    world.dokku(&["graduate:add-hook", "post", "true"]);
    assert_data_eq!(
        world.dokku(&["graduate:hooks", "PRE"]),
        str![[r#"
stdout:
1 curl -fsS https://example.com/freeze
2 make check; test -n $CI
exit status 0

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:hooks"]),
        str![[r#"
stdout:
PRE 1 curl -fsS https://example.com/freeze
PRE 2 make check; test -n $CI
POST 1 true
exit status 0

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:rm-hook", "PRE", "1"]),
        str![[r#"
stderr:
-----> PRE hook 1 removed: curl -fsS https://example.com/freeze
exit status 0

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:rm-hook", "PRE", "2"]),
        str![[r#"
stderr:
 !     there is no PRE hook 2; there is 1
       hint: `dokku graduate:hooks PRE` lists them
exit status 1

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:hooks", "--format", "json"]),
        str![[r#"
stdout:
[
  {
    "command": "make check; test -n $CI",
    "index": 1,
    "type": "PRE"
  },
  {
    "command": "true",
    "index": 1,
    "type": "POST"
  }
]
exit status 0

"#]]
    );
}

#[test]
fn an_environment_is_linked_step_by_step() {
    let mut world = LoneHost::new();
    let mut sshd = Sshd::new();
    let url = sshd.url();
    world.replace(&url, "[URL]");
    let login = url.trim_start_matches("ssh://").split(':').next().unwrap();
    let user = login.split('@').next().unwrap();
    world.replace(login, "[LOGIN]");
    world.replace(format!("\"user\": \"{user}\""), "\"user\": [USER]");
    world.replace(sshd.port().to_string(), "[PORT]");
    let add = ["graduate:add-environment", "production", &url];

    let key = world.dokku(&["graduate:key"]);
    let key = key.lines().nth(1).unwrap().to_owned();
    world.replace(&key, "[KEY]");
    world.replace(format!("graduate-{}", dokku_graduate::exposed::host_name()), "graduate-[HOST]");
    world.replace(
        format!("graduate:accept {}", dokku_graduate::exposed::host_name()),
        "graduate:accept [HOST]",
    );
    assert_data_eq!(
        world.dokku(&["graduate:key"]),
        str![[r#"
stdout:
[KEY]
exit status 0

"#]]
    );

    assert_data_eq!(
        world.dokku(&add),
        str![[r#"
stderr:
-----> Host key pinned; compare it with the host's own
       [FINGERPRINT] ED25519
-----> production ([LOGIN]) added
 !     [URL] does not accept this host's key yet
       hint: when the plugin is installed there, run this there, as root:
       echo '[KEY]' | sudo dokku graduate:accept [HOST]
       nothing can graduate to it before that is done; run this command again to test the link
exit status 0

"#]]
    );
    sshd.authorise(&key, "echo ' !     `graduate:agent` is not a dokku command.' >&2; exit 1");
    assert_data_eq!(
        world.dokku(&add),
        str![[r#"
stderr:
-----> Host key pinned before
       [FINGERPRINT] ED25519
-----> production ([LOGIN]) was added before
 !     [URL] accepts this host's key, but no graduate plugin answers there: "!     `graduate:agent` is not a dokku command."
       hint: install the plugin there as well: `dokku plugin:install`, see README
       nothing can graduate to it before that is done; run this command again to test the link
exit status 0

"#]]
    );
    sshd.authorise(&key, "echo Welcome to production");
    assert_data_eq!(
        world.dokku(&add),
        str![[r#"
stderr:
-----> Host key pinned before
       [FINGERPRINT] ED25519
-----> production ([LOGIN]) was added before
 !     [URL] printed something before the plugin's answer: "Welcome to production"
       hint: a login script (.bashrc, .profile, /etc/profile.d) of that user must not print
       nothing can graduate to it before that is done; run this command again to test the link
exit status 0

"#]]
    );
    sshd.authorise(&key, &HELLO.replace("\"protocol\":5", "\"protocol\":9"));
    assert_data_eq!(
        world.dokku(&add),
        str![[r#"
stderr:
-----> Host key pinned before
       [FINGERPRINT] ED25519
       the plugin's version 0.1.0 answers on prod-1
-----> production ([LOGIN]) was added before
exit status 0

"#]]
    );
    sshd.authorise(&key, HELLO);
    assert_data_eq!(
        world.dokku(&add),
        str![[r#"
stderr:
-----> Host key pinned before
       [FINGERPRINT] ED25519
-----> production ([LOGIN]) was added before
 !     [URL] runs version 0.1.0 of the plugin, which speaks protocol 5; here it is 9
       hint: install the same version on both hosts
       nothing can graduate to it before that is done; run this command again to test the link
exit status 0

"#]]
    );

    assert_data_eq!(
        world.dokku(&["graduate:environments"]),
        str![[r#"
stdout:
production=[URL]
exit status 0

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:environments", "--format", "json"]),
        str![[r#"
stdout:
[
  {
    "host": "127.0.0.1",
    "name": "production",
    "port": [PORT],
    "url": "[URL]",
    "user": [USER]
  }
]
exit status 0

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:add-environment", "production", "elsewhere"]),
        str![[r#"
stderr:
 !     production is linked to [URL] already
       hint: to link it elsewhere, first `dokku graduate:rm-environment production`
exit status 1

"#]]
    );

    sshd.set_up_anew();
    assert_data_eq!(
        world.dokku(&add),
        str![[r#"
stderr:
-----> Host key pinned before
       [FINGERPRINT] ED25519
 !     [URL] shows another host key than the one that was pinned when it was added
       hint: either the host was set up anew, or another machine intercepts the connection: ask its operator
       if the new key is right, run `graduate:add-environment` again with `--fingerprint` and the new key's
exit status 1

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:rm-environment", "production"]),
        str![[r#"
stderr:
-----> production removed
exit status 0

"#]]
    );
    assert_data_eq!(
        world.dokku(&add),
        str![[r#"
stderr:
-----> Host key pinned; compare it with the host's own
       [FINGERPRINT] ED25519
-----> production ([LOGIN]) added
 !     [URL] runs version 0.1.0 of the plugin, which speaks protocol 5; here it is 9
       hint: install the same version on both hosts
       nothing can graduate to it before that is done; run this command again to test the link
exit status 0

"#]]
    );
}

#[test]
fn what_cannot_be_linked_leaves_nothing() {
    let mut world = LoneHost::new();
    let sshd = Sshd::new();
    let url = sshd.url();
    world.replace(&url, "[URL]");
    world.replace(sshd.port().to_string(), "[PORT]");
    let wrong = format!("--fingerprint=SHA256:{}", "A".repeat(43));
    assert_data_eq!(
        world.dokku(&["graduate:add-environment", "production", &url, &wrong]),
        str![[r#"
stderr:
 !     [URL] has no host key with the fingerprint SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; it shows [FINGERPRINT]
       hint: compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that host
exit status 1

"#]]
    );
    drop(sshd);
    assert_data_eq!(
        world.dokku(&["graduate:add-environment", "production", &url]),
        str![[r#"
stderr:
 !     cannot reach [URL]: no ssh server answers on port [PORT]
       hint: is the host up, and are name, port and firewall right?
exit status 4

"#]]
    );
    assert_data_eq!(
        world.dokku(&["graduate:environments"]),
        str![[r#"
exit status 0

"#]]
    );
    assert!(!world.path("lib/data/graduate/settings.json").exists());
    assert!(!world.path("lib/data/graduate/ssh/production.config").exists());
    assert_data_eq!(
        world.dokku(&["graduate:rm-environment", "production"]),
        str![[r#"
stderr:
 !     no environment is called production; there is none yet
       hint: link it with `dokku graduate:add-environment production HOST`
exit status 1

"#]]
    );
}

#[test]
fn a_shared_host_keeps_its_pins_until_its_last_environment_goes() {
    let world = LoneHost::new();
    let sshd = Sshd::new();
    let url = sshd.url();
    world.dokku(&["graduate:add-environment", "blue", &url]);
    world.dokku(&["graduate:add-environment", "green", &url]);
    let known_hosts = world.path("lib/data/graduate/ssh/known_hosts");
    let pins = fs::read_to_string(&known_hosts).unwrap();
    assert_eq!(pins.lines().count(), 1, "{pins}");
    world.dokku(&["graduate:rm-environment", "blue"]);
    assert_eq!(fs::read_to_string(&known_hosts).unwrap(), pins);
    world.dokku(&["graduate:rm-environment", "green"]);
    assert_eq!(fs::read_to_string(&known_hosts).unwrap(), "");
}

#[test]
fn a_trigger_without_a_graduation_lets_the_deploy_go_on() {
    let world = LoneHost::new();
    let transcript =
        world.called_as("plugin/check-deploy", &["api", "c0ffee", "web", "5000", "172.17.0.2", "1"]);
    assert_eq!(transcript, "exit status 0\n");
}
