//! A cell of the matrix: what happens, to whom, at which point of which graduation.

use std::fmt;

use crate::fault::Fault;
use crate::point::{Point, Step};

/// What would become of the graduation if nothing happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It goes live.
    Live,
    /// A POST hook declines it when all apps are held.
    Declined,
    /// An app fails after the decision, and all is rolled back.
    Failing,
    /// It is verified when it is live, and stays.
    Verified,
    /// It is verified when it is live, and goes back.
    Rejected,
    /// It goes live, asked for by a command instead of a push.
    Commanded,
    /// It goes live by post-receive alone: there is no pre-receive, and the tag has moved before anything begins.
    AfterPush,
}

/// How the new version of `api` comes to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is built there, as `fresh` is.
    Built,
    /// Its image is kept there; `fresh` is built.
    Kept,
    /// The source sends the images of both.
    Sent,
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// To which graduation.
    pub(crate) course: Course,
    /// What happens.
    pub(crate) fault: Fault,
    /// When.
    pub(crate) point: Point,
}

impl Course {
    /// All.
    const ALL: [Course; 7] = [
        Course::Live,
        Course::Declined,
        Course::Failing,
        Course::Verified,
        Course::Rejected,
        Course::Commanded,
        Course::AfterPush,
    ];

    /// What cells of it begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Declined => "declined-",
            Self::Failing => "failing-",
            Self::Verified => "verified-",
            Self::Rejected => "rejected-",
            Self::Commanded => "commanded-",
            Self::AfterPush => "after-push-",
        }
    }

    /// If nothing happens it goes live.
    pub(crate) fn goes_live(self) -> bool {
        match self {
            Self::Live | Self::Verified | Self::Commanded | Self::AfterPush => true,
            Self::Declined | Self::Failing | Self::Rejected => false,
        }
    }

    /// The graduation comes to this step, and not in the same way as one on another course.
    fn has(self, step: Step) -> bool {
        match self {
            Self::Live => !step.is_of_a_roll_back_alone() && !step.is_of_a_soak(),
            Self::Declined => step.is_of_an_abort(),
            Self::Failing => step.is_of_a_roll_back(),
            Self::Verified => step.is_of_a_confirmation(),
            Self::Rejected => step.is_of_a_rejection(),
            Self::Commanded => step.is_of_a_decision(),
            Self::AfterPush => step.is_of_a_beginning() || step.is_of_a_decision() && step != Step::TagMoved,
        }
    }
}

impl Cell {
    /// Every pair of a point and a fault, those that cannot occur included.
    pub(crate) fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for course in Course::ALL {
            for fault in Fault::all() {
                let points = Point::all().into_iter().filter(|point| course.has(point.step));
                cells.extend(points.map(|point| Cell { course, fault, point }));
            }
        }
        cells
    }

    /// What happens to which graduation.
    pub(crate) fn struck(self) -> String {
        format!("{}{}", self.course.prefix(), self.fault.name())
    }

    /// Why it cannot occur; nothing if it can.
    pub(crate) fn absence(self) -> Option<&'static str> {
        self.fault.absence(self.course, self.point)
    }

    /// How the version comes. It hangs on the cell's name, too, where the point does not say it.
    pub(crate) fn way(self) -> Way {
        match self.sum() % 3 {
            _ if self.point.step.is_of_an_image() => Way::Sent,
            0 => Way::Built,
            1 => Way::Kept,
            _ => Way::Sent,
        }
    }

    /// If something is left that has to be settled, the next push does it; else it is the command for it. Which one
    /// hangs on nothing but the cell's name, so that a cell played alone is the same cell.
    pub(crate) fn is_settled_by_a_push(self) -> bool {
        self.sum().is_multiple_of(2)
    }

    /// Whether a halted call of Docker goes on only when the graduation is over: nothing may wait for it. A full disk and a
    /// pusher whose connection carries nothing do not end the graduation, so it waits for the call.
    pub(crate) fn halts_to_the_end(self) -> bool {
        let ends_it = !matches!(self.fault, Fault::FullSource | Fault::FullDestination | Fault::FreezePusher);
        ends_it && (self.sum() / 2).is_multiple_of(2)
    }

    fn sum(self) -> u32 {
        self.to_string().bytes().map(u32::from).sum()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.struck(), self.point.name())
    }
}
