//! The client that asked for the graduation: receive-pack with its hooks, or a command that watches.

use super::Moves;
use super::world::{Push, Stage, Told, World};

impl Push {
    fn hears(&mut self, told: Told) {
        self.stage = Stage::Over;
        self.told = Some(told);
    }

    /// Handles the end of the coordinator, which had sent `said` before.
    pub(super) fn hears_of_a_death(&mut self, said: Option<u8>) {
        match (self.stage, said) {
            (Stage::Following, None) => self.hears(Told::Look),
            // Only a push is known to stop when its hook refuses: git moves nothing then.
            (Stage::Asked | Stage::Watching, None) if !self.heard_yes => {
                self.hears(if self.is_push { Told::NotLive } else { Told::Look });
            }
            _ => {}
        }
    }

    /// Ends the client without a result from the coordinator.
    pub(super) fn is_over_without_a_word(&mut self) {
        if self.stage != Stage::Over {
            self.was_cut_off = true;
            self.hears(Told::Look);
        }
    }
}

fn meaning(status: u8) -> Told {
    match status {
        0 => Told::Live,
        1 => Told::NotLive,
        _ => Told::Look,
    }
}

/// What a push or a command can do, and what can happen to it.
pub(super) fn moves(moves: &mut Moves) {
    let world = moves.from;
    let coordinator_is_gone = world.coordinator.is_none();
    match world.push.stage {
        Stage::Over => {}
        Stage::Watching | Stage::Asked => {
            let gone = |world: &mut World| {
                world.push.gone_unnoticed = world.coordinator.is_some();
                world.push.is_over_without_a_word();
            };
            moves.fault("the client goes away", gone);
            if world.push.stage == Stage::Asked && world.push.heard_yes {
                moves.step("pre-receive says yes to git", |world| world.push.stage = Stage::Moving);
            } else if let Some(status) = world.source.said {
                moves.step("who asked hears how it ended", |world| world.push.hears(meaning(status)));
            } else if world.push.stage == Stage::Watching && world.push.heard_ready {
                moves.step("pre-receive asks for the vote", |world| {
                    world.push.stage = Stage::Asked;
                    world.coordinator.as_mut().expect("it lives").vote_asked = true;
                });
            }
        }
        Stage::Moving => {
            moves.fault("receive-pack dies before it moves the tag", |world| {
                world.push.is_over_without_a_word();
            });
            moves.step("git moves the tag", |world| {
                world.push.stage = Stage::Moved;
                world.source.tag_moved = true;
                world.source.tag_is_durable = false;
            });
        }
        Stage::Moved => {
            moves.fault("receive-pack dies after it moved the tag", |world| {
                world.push.is_over_without_a_word();
            });
            // Without a coordinator, post-receive starts one that settles, and waits for it for a limited time.
            if coordinator_is_gone && world.source.current {
                moves.step("post-receive gives up waiting for who settles", |world| {
                    world.push.hears(Told::Look);
                });
            } else {
                moves.step("post-receive attaches", |world| {
                    world.push.stage = Stage::Following;
                    if world.coordinator.is_none() {
                        world.push.hears_of_a_death(world.source.said);
                    }
                });
            }
        }
        Stage::Following => {
            moves.fault("post-receive dies", |world| world.push.is_over_without_a_word());
            if let Some(status) = world.source.said {
                moves.step("post-receive hears how it ended", |world| world.push.hears(meaning(status)));
            }
        }
    }
}
