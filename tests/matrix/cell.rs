//! A cell of the matrix: what happens, to whom, at which point.

use std::fmt;

use crate::fault::Fault;
use crate::point::Point;

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What happens.
    pub(crate) fault: Fault,
    /// When.
    pub(crate) point: Point,
}

impl Cell {
    /// Every pair of a point and a fault, those that cannot occur included.
    pub(crate) fn all() -> Vec<Cell> {
        let at = |fault: Fault| Point::all().into_iter().map(move |point| Cell { fault, point });
        Fault::all().into_iter().flat_map(at).collect()
    }

    /// Why it cannot occur; nothing if it can.
    pub(crate) fn absence(self) -> Option<&'static str> {
        self.fault.absence(self.point)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.fault.name(), self.point.name())
    }
}
