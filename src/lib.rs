//! dokku-graduate: promotes a whole Dokku environment at once.
//!
//! ARCHITECTURE.md has the map, docs/internals/ the transaction and its promises. The crate is a library only for the
//! tests of this repository: apart from [`main`] it exposes what they use.

mod access;
mod after_deploy;
mod agent;
mod approval;
mod approvals;
mod attach;
mod carried_out;
mod cli;
mod client;
mod commands;
mod commit;
mod coordinator;
mod decision;
mod delivery;
mod diff;
mod docker;
mod doctor;
mod dokku;
mod dokku_version;
mod environment;
mod error;
mod exit;
mod factors;
mod files;
mod finding;
mod forward;
mod gate;
mod git;
mod history;
mod hook;
mod hook_program;
mod image;
mod install;
mod journal;
mod legible;
mod lines;
mod link;
mod links;
mod listing;
mod local;
mod log;
mod manifest;
mod mapping;
mod multiplex;
mod names;
mod obstacle;
mod order;
mod output;
mod participant;
mod plan;
mod ports;
mod preflight;
mod process;
mod procfile;
mod protocol;
mod provenance;
mod public_key;
mod receive;
mod receive_image;
mod records;
mod repo;
mod report;
mod request;
mod runs;
mod sendable;
mod settings;
mod signed_tag;
mod signers;
mod slots;
mod sources;
mod ssh;
mod start;
mod transfer;
mod trigger;
mod updates;
mod vars;
mod view;
mod who;

pub use start::main;

/// What the tests and fuzzers of this repository use. It is not a public API, and changes with every version.
pub mod exposed {
    /// What a source's key may request.
    pub mod access {
        pub use crate::access::SourceCommand;
    }
    /// The messages between [`crate::coordinator`] and the hooks and commands.
    pub mod control {
        pub use crate::coordinator::control::{Ask, Tell};
    }
    /// The format of the journal.
    pub mod journal {
        pub use crate::journal::{Entry, Journal, read};
    }
    /// The text of `--help`.
    pub mod help {
        pub use crate::commands::all;
        pub use crate::commands::help::usage;
    }
    pub use crate::exit::ExitStatus;
    /// Sending and receiving images.
    pub mod image {
        pub use crate::docker::DockerError;
        pub use crate::image::BuildFacts;
        pub use crate::image::send::{SendError, SendProgress, Sending};
        pub use crate::image::unpack::{Awaited, UnpackError, unpack, unpack_parts};
    }
    pub use crate::legible::legible;
    /// The files of a commit.
    pub mod manifest {
        pub use crate::manifest::{GITIGNORE, MANIFEST_FILE, MAX_MANIFEST, Manifest};
    }
    /// Checked names and ids.
    pub mod names {
        pub use crate::names::{
            AppName, CommitId, Digest, EnvironmentName, GraduationId, Label, ObjectId, ReleaseTag,
            RequestTag, Secret,
        };
    }
    pub use crate::order::Notice;
    pub use crate::plan::Options;
    pub use crate::process::{Children, Program, Running};
    /// The messages between the two hosts.
    pub mod protocol {
        pub use crate::protocol::{
            MAX_LINE, MAX_LOG_TEXT, PROTOCOL, Report, Request, clipped, encode, parse, read_line,
        };
    }
    pub use crate::repo::Incoming;
    pub use crate::report::Reporter;
    pub use crate::settings::url::Url;
    /// Signed tags.
    pub mod signed_tag {
        pub use crate::signed_tag::{MAX_TAG, SignedTag, TagProblem, parse};
    }
    /// The properties that can be set.
    pub mod properties {
        pub use crate::settings::properties::{Described, check, described};
    }
    /// Connections multiplexed over one pair of pipes.
    pub mod multiplex {
        pub use crate::multiplex::frame::{FrameError, StreamId};
        pub use crate::multiplex::streams::{Arrived, Side, StreamError, Streams, WINDOW};
    }
    /// What a push requests.
    pub mod updates {
        pub use crate::updates::confusing::is_blocker;
        pub use crate::updates::{Push, Update, parse, understand};
    }
    pub use crate::vars::host_name;
}
