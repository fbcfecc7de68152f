//! The names under which Dokku starts this program: links to the one binary.

/// Dokku's subcommands, by the last part of their path: `subcommands/<name>`; `default` is `graduate`.
pub(crate) const SUBCOMMANDS: [&str; 37] = [
    "abort",
    "accept",
    "add-environment",
    "add-hook",
    "agent",
    "commit",
    "confirm",
    "default",
    "diff",
    "doctor",
    "environments",
    "forward",
    "freeze",
    "gate",
    "go",
    "held",
    "help",
    "hooks",
    "key",
    "logs",
    "map",
    "plan",
    "receive",
    "receive-image",
    "recover",
    "reject",
    "releases",
    "report",
    "rm-environment",
    "rm-hook",
    "rollback",
    "set",
    "signers",
    "sources",
    "status",
    "unfreeze",
    "unmap",
];

/// The triggers that are links to this program in the plugin `graduate`, and run before Dokku's own.
pub(crate) const IN_GRADUATE: [&str; 15] = [
    "post-app-clone-setup",
    "post-app-rename",
    "post-app-rename-setup",
    "post-config-update",
    "post-create",
    "post-delete",
    "post-deploy",
    "post-domains-update",
    "post-extract",
    "post-proxy-ports-update",
    "pre-delete",
    "pre-restore",
    "scheduler-deploy",
    "scheduler-post-deploy-process",
    "scheduler-stop",
];

/// The triggers in the companion `00_graduate`, which run before Dokku's own: before Dokku's core takes an app's files
/// from what is deployed, and before its builders detect, build and release (make an image that can be started).
pub(crate) const BEFORE_ALL: [&str; 4] =
    ["builder-build", "builder-detect", "builder-release", "core-post-extract"];

/// The trigger in the companion `zzz_graduate`, which runs after Dokku's own health check.
pub(crate) const AFTER_ALL: &str = "check-deploy";
