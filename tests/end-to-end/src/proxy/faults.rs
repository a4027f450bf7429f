use super::Operation;

/// What goes wrong at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Share of writes (0 to 1) that reach the store but whose answer is lost: the connection closes instead.
    pub lose_write_answers: f64,
    /// Share of writes that never reach the store: the connection closes.
    pub lose_writes: f64,
    /// Every request is answered 503 SlowDown and doesn't reach the store.
    pub slow_down: bool,
    /// No request is passed on or answered before this ends.
    pub paused: bool,
}

/// What is done to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    AnswerLost,
    Lost,
    SlowedDown,
}

impl Faults {
    /// Decides over one request, given a number drawn evenly from `0..1`.
    pub(super) fn fate(&self, operation: Operation, drawn: f64) -> Fate {
        if self.slow_down {
            return Fate::SlowedDown;
        }
        if !operation.is_write() {
            return Fate::Served;
        }
        if drawn < self.lose_write_answers {
            Fate::AnswerLost
        } else if drawn < self.lose_write_answers + self.lose_writes {
            Fate::Lost
        } else {
            Fate::Served
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_lose_their_answers() {
        let faults = Faults { lose_write_answers: 0.5, lose_writes: 0.2, ..Faults::default() };
        assert_eq!(faults.fate(Operation::Put, 0.4), Fate::AnswerLost);
        assert_eq!(faults.fate(Operation::Put, 0.6), Fate::Lost);
        assert_eq!(faults.fate(Operation::Put, 0.8), Fate::Served);
        assert_eq!(faults.fate(Operation::Get, 0.4), Fate::Served);
    }
}
