//! The hosts of a stage: two of them, with proxies on the ways to them and small disks below what is theirs and ours.

use crate::disk::Disk;
use crate::proxy::Proxy;
use crate::support::World;

/// Two hosts with the plugin.
pub(crate) struct Hosts {
    // Disks go first: nothing may be mounted any more when the directories are removed.
    /// Of the source; none where mounting is not allowed.
    pub(crate) source_disk: Option<Disk>,
    /// Of the destination.
    pub(crate) destination_disk: Option<Disk>,
    /// From the source to the destination.
    pub(crate) link: Proxy,
    /// From the pusher to the source.
    pub(crate) pusher: Proxy,
    /// The hosts themselves.
    pub(crate) world: World,
}

impl Hosts {
    /// Makes them.
    pub(crate) fn new() -> Hosts {
        let world = World::without_plugin();
        let disk = |host| Disk::below(&world, host);
        let (source_disk, destination_disk) = (disk(&world.source), disk(&world.destination));
        for host in [&world.source, &world.destination] {
            world.install(host);
        }
        let [pusher, link] = [&world.source, &world.destination]
            .map(|host| Proxy::to(host.as_simulated().unwrap().ssh_port()));
        let url = link.instead_of(&world.destination.url());
        world.authorise(&world.source, &world.destination);
        world.source.dokku(&["graduate:add-environment", "production", &url]).succeeds();
        world.source.dokku(&["graduate:set", "production", "deliver", "build"]).succeeds();
        Hosts { source_disk, destination_disk, link, pusher, world }
    }
}
