//! Plugins that tests write: some programs that Dokku calls.

use super::host::Host;

/// Installs a plugin of this name with these programs, shell scripts. Dokku installs no other plugin again, for that would
/// change settings of apps.
pub(crate) fn install(host: &Host, name: &str, programs: &[(&str, &str)]) {
    let mut script = format!(
        "set -e; dir=$(mktemp -d); mkdir -p $dir/{name}/subcommands; cd $dir/{name}\n\
         printf '[plugin]\\ndescription = \"%s\"\\nversion = \"1\"\\n[plugin.config]\\n' probe >plugin.toml\n"
    );
    for (file, text) in programs {
        script.push_str(&format!(
            "cat >{file} <<'END-OF-PROGRAM'\n#!/bin/sh\n{text}\nEND-OF-PROGRAM\nchmod 755 {file}\n"
        ));
    }
    script.push_str(&format!(
        "tar czf $dir/{name}.tar.gz -C $dir {name}\n\
         dokku plugin:install file://$dir/{name}.tar.gz --name {name} --skip-install-trigger\nrm -rf $dir\n"
    ));
    host.root(&script).succeeds();
}
