//! Which command a rule is for, and what it does to it.

use std::str::FromStr;
use std::time::Duration;

use super::code;

/// Which commands a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// Command code; `None` is any.
    pub code: Option<u32>,
    /// Which of the matching commands since the rule was set, from 0; `None` is every one.
    pub nth: Option<usize>,
}

/// What is done to a command or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// In the answer to ReadPublic or CreatePrimary, put the attacker's public key and its Name in place.
    SwapKey,
    /// Answer with the first answer ever given to this command code; the TPM does not see the command.
    Replay,
    /// Answer with these bytes; the TPM does not see the command.
    Answer(Vec<u8>),
    /// Invert this bit of the command, counted from the start, most significant first; modulo its length.
    FlipCommand(usize),
    /// Invert this bit of the answer, counted as in `FlipCommand`.
    FlipAnswer(usize),
    /// Keep the command from the TPM and close the connection.
    DropCommand,
    /// Let the TPM have the command, and close the connection instead of answering.
    DropAnswer,
    /// Answer this much later.
    Delay(Duration),
}

/// One thing the interposer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// To which commands.
    pub when: When,
    /// What.
    pub action: Action,
}

impl Rule {
    /// `action` for every command of `code`.
    #[must_use]
    pub fn every(code: u32, action: Action) -> Self {
        let when = When {
            code: Some(code),
            nth: None,
        };
        Self { when, action }
    }

    /// `action` for the `nth` command of `code` from now on, counted from 0.
    #[must_use]
    pub fn nth(code: u32, nth: usize, action: Action) -> Self {
        let when = When {
            code: Some(code),
            nth: Some(nth),
        };
        Self { when, action }
    }

    /// `action` for the `nth` command of any code from now on, counted from 0.
    #[must_use]
    pub fn nth_of_all(nth: usize, action: Action) -> Self {
        let when = When {
            code: None,
            nth: Some(nth),
        };
        Self { when, action }
    }
}

/// An answer that is nothing but `response_code`, such as TPM_RC_RETRY (0x922).
#[must_use]
pub fn error_answer(response_code: u32) -> Vec<u8> {
    let mut answer = vec![0x80, 0x01, 0, 0, 0, 10];
    answer.extend(response_code.to_be_bytes());
    answer
}

/// Inverts bit `bit` (most significant of the first byte is 0), modulo the length.
pub(super) fn flip(bytes: &mut [u8], bit: usize) {
    let bits = bytes.len() * 8;
    if let Some(byte) = bit.checked_rem(bits).and_then(|b| bytes.get_mut(b / 8)) {
        *byte ^= 0x80 >> (bit % 8);
    }
}

/// A rule's text could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No `@`.
    #[error("rule {0:?} has no @: ACTION@COMMAND[#N]")]
    NoCommand(String),
    /// Unknown command name.
    #[error(
        "rule {0:?}: unknown TPM command {1:?} (a name such as Unseal, a code such as 0x15e, or *)"
    )]
    Command(String, String),
    /// The number after `#` or `:`.
    #[error("rule {0:?}: {1:?} is not a number")]
    Number(String, String),
    /// Unknown action.
    #[error(
        "rule {0:?}: unknown action {1:?} (swap-key, replay, answer:RC, flip-command:BIT, flip-answer:BIT, \
         drop-command, drop-answer, delay:MILLISECONDS)"
    )]
    Action(String, String),
}

impl FromStr for Rule {
    type Err = RuleError;

    /// `ACTION@COMMAND[#N]`, for example `flip-answer:96@Unseal#0` or `drop-command@*#3`.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let rule = || text.to_owned();
        let number = |digits: &str| {
            let parsed = match digits.strip_prefix("0x") {
                Some(hex) => usize::from_str_radix(hex, 16),
                None => digits.parse(),
            };
            parsed.map_err(|_| RuleError::Number(rule(), digits.to_owned()))
        };
        let (action, command) = text
            .split_once('@')
            .ok_or_else(|| RuleError::NoCommand(rule()))?;
        let (command, nth) = match command.split_once('#') {
            Some((command, nth)) => (command, Some(number(nth)?)),
            None => (command, None),
        };
        let unknown = || RuleError::Command(rule(), command.to_owned());
        let code = match command {
            "*" => None,
            _ => Some(
                code(command)
                    .or_else(|| u32::from_str_radix(command.strip_prefix("0x")?, 16).ok())
                    .ok_or_else(unknown)?,
            ),
        };
        let (kind, argument) = match action.split_once(':') {
            Some((kind, argument)) => (kind, Some(number(argument)?)),
            None => (action, None),
        };
        let action = match (kind, argument) {
            ("swap-key", None) => Action::SwapKey,
            ("replay", None) => Action::Replay,
            ("answer", Some(rc)) => Action::Answer(error_answer(
                u32::try_from(rc).map_err(|_| RuleError::Number(rule(), rc.to_string()))?,
            )),
            ("flip-command", Some(bit)) => Action::FlipCommand(bit),
            ("flip-answer", Some(bit)) => Action::FlipAnswer(bit),
            ("drop-command", None) => Action::DropCommand,
            ("drop-answer", None) => Action::DropAnswer,
            ("delay", Some(ms)) => Action::Delay(Duration::from_millis(ms as u64)),
            _ => return Err(RuleError::Action(rule(), action.to_owned())),
        };
        let when = When { code, nth };
        Ok(Self { when, action })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules_are_read_from_their_text() {
        assert_eq!(
            "replay@Unseal".parse(),
            Ok(Rule::every(0x15E, Action::Replay))
        );
        assert_eq!(
            "flip-answer:96@0x15e#1".parse(),
            Ok(Rule::nth(0x15E, 1, Action::FlipAnswer(96)))
        );
        assert_eq!(
            "answer:0x922@*#3".parse(),
            Ok(Rule::nth_of_all(3, Action::Answer(error_answer(0x922))))
        );
    }

    #[test]
    fn a_misspelt_rule_is_refused_by_what_is_wrong_in_it() {
        let refused = |text: &str| text.parse::<Rule>().unwrap_err();
        assert_eq!(refused("replay"), RuleError::NoCommand("replay".into()));
        assert_eq!(
            refused("replay@Unsael"),
            RuleError::Command("replay@Unsael".into(), "Unsael".into())
        );
        assert_eq!(
            refused("delay:x@Unseal"),
            RuleError::Number("delay:x@Unseal".into(), "x".into())
        );
        assert_eq!(
            refused("delay@Unseal"),
            RuleError::Action("delay@Unseal".into(), "delay".into())
        );
    }

    #[test]
    fn a_flipped_bit_is_counted_from_the_first_byte_and_wraps() {
        let mut bytes = [0, 0];
        flip(&mut bytes, 15);
        assert_eq!(bytes, [0, 1]);
        flip(&mut bytes, 16);
        assert_eq!(bytes, [0x80, 1]);
        flip(&mut [], 3);
    }
}
