//! What the stories are told with: a world of two hosts, apps to push to them, and what can be seen from outside.
#![allow(dead_code, unused_imports, reason = "each story uses a part of it")]

mod app;
mod before_docker;
mod checkout;
mod gate;
mod halt;
mod host;
mod image_store;
mod lone_host;
mod package;
mod plugin;
mod post_hook;
mod ran;
mod real;
pub(crate) mod schema;
mod settled;
mod snapshot;
mod sshd;
mod terminal;
mod traces;
mod transcript;
mod visitor;
mod world;

pub(crate) use app::App;
pub(crate) use before_docker::BeforeDocker;
pub(crate) use checkout::Checkout;
pub(crate) use gate::Gate;
pub(crate) use halt::{Call, Halt, Moment, slow_save};
pub(crate) use host::{Host, processes_of};
pub(crate) use image_store::ImageStore;
pub(crate) use lone_host::LoneHost;
pub(crate) use package::directory as package_directory;
pub(crate) use plugin::install as install_plugin;
pub(crate) use post_hook::PostHook;
pub(crate) use ran::{Ran, Running, command, patience, until};
pub(crate) use snapshot::Snapshot;
pub(crate) use sshd::Sshd;
pub(crate) use terminal::Terminal;
pub(crate) use visitor::Visitor;
pub(crate) use world::World;
