//! The client of the status socket: asks every process of a server, makes rates of two looks, and shows them as text.
//!
//! ```text
//! ask ──> Answer (of each process) ──> report: rates, percentiles ──> view: lines of text ──> terminal, standard output
//! ```

mod ask;
mod report;
mod table;
mod terminal;
mod text;
mod view;

pub use ask::{Answer, Answers, AskError, ask, ask_one, ask_these};
pub use report::{CoreRow, Report, SessionRow, Sum};
pub use table::{Column, lay_out};
pub use terminal::{ScreenError, run};
pub use view::{Sort, sessions, whole};
