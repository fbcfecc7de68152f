//! Where real hosts are, if the environment names some.

/// Two real hosts and how to reach them.
#[derive(Clone, Debug)]
pub(crate) struct RealHosts {
    /// `GRADUATE_E2E_SOURCE`, such as `ssh://dokku@10.0.0.1:22`.
    pub(crate) source: Place,
    /// `GRADUATE_E2E_DESTINATION`.
    pub(crate) destination: Place,
    /// `GRADUATE_E2E_KEY`: the operator's private key, which both hosts accept.
    pub(crate) key: String,
    /// `GRADUATE_E2E_BASE_IMAGE`: what the apps' Dockerfiles begin with; it must have `busybox`.
    pub(crate) base_image: String,
}

/// One real host.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// How developers and operators reach it.
    pub(crate) url: String,
    /// `GRADUATE_E2E_ROOT_SOURCE` or `_DESTINATION`: a command that runs a shell command as root there, such as
    /// `docker exec -i staging sh -c`; the shell command is put after it as one argument.
    pub(crate) root: Vec<String>,
}

/// The real hosts that are to be used in place of simulated ones.
pub(crate) fn hosts() -> Option<RealHosts> {
    #[expect(clippy::disallowed_methods, reason = "the tests' own variables, read in this one place")]
    let get =
        |name: &str| std::env::var(format!("GRADUATE_E2E_{name}")).ok().filter(|value| !value.is_empty());
    let place = |side: &str| {
        let root = get(&format!("ROOT_{side}"))?.split_whitespace().map(str::to_owned).collect();
        Some(Place { url: get(side)?, root })
    };
    Some(RealHosts {
        source: place("SOURCE")?,
        destination: place("DESTINATION")?,
        key: get("KEY")?,
        base_image: get("BASE_IMAGE").unwrap_or_else(|| "busybox".to_owned()),
    })
}

/// Forgets everything that an earlier story left on a host.
pub(super) const RESET: &str = r#"
rm -rf "$DOKKU_ROOT/.gitconfig" "$DOKKU_ROOT/told" "$DOKKU_LIB_ROOT/aside"
docker=$(command -v docker); [ ! -e $docker.whole ] || mv $docker.whole $docker
for app in $(dokku --quiet apps:list 2>/dev/null); do dokku --force apps:destroy "$app"; done
for plugin in graduate aa-probe probe zz-gates; do dokku plugin:uninstall $plugin; done
for name in staging graduate-staging bob root default Alice; do dokku ssh-keys:remove $name; done
rm -rf "$DOKKU_ROOT/.git" "$DOKKU_ROOT/.gitignore" "$DOKKU_LIB_ROOT/data/graduate" "$DOKKU_LIB_ROOT/config/graduate"
docker network prune -f
# What is built again is to be built.
docker builder prune -af
rm -rf /tmp/graduate-gates
docker ps -aq --filter name=graduate --filter name=base-image | xargs -r docker rm -f
docker images --format '{{.Repository}}:{{.Tag}}' graduate/kept | xargs -r docker rmi -f
exit 0
"#;
