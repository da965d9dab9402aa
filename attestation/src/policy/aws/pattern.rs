//! Patterns of policies: `*` for any letters, `?` for one, and variables `${key}` or `${key, 'default'}`.

/// Whether `text` fits `pattern`, case by case.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and up to where it has been tried.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, tried)) = star else {
                    return false;
                };
                star = Some((at, tried + 1));
                p = at + 1;
                t = tried + 1;
            }
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|c| *c == '*')
}

/// Whether `text` fits `pattern` in any case, as names of actions do.
pub(super) fn fits_any_case(pattern: &str, text: &str) -> bool {
    fits(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Whether two ARNs fit part by part: `*` does not reach over a colon, but for the last part.
pub(super) fn arn_fits(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<&str>, Vec<&str>) = (
        pattern.splitn(6, ':').collect(),
        arn.splitn(6, ':').collect(),
    );
    pattern.len() == 6
        && arn.len() == 6
        && pattern
            .iter()
            .zip(&arn)
            .all(|(pattern, part)| fits(pattern, part))
}

/// Whether a pattern takes more than one text.
pub(super) fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// `text` with its variables filled in by `lookup`; none where one of them has no value (IAM user guide, "Policy
/// variables"). `${*}`, `${?}` and `${$}` stand for the letters themselves, which a value without wildcards compares
/// literally.
pub(super) fn fill<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (variable, after) = after.split_once('}')?;
        let (name, default) = match variable.split_once(',') {
            Some((name, default)) => {
                let default = default.trim();
                let quoted = default
                    .strip_prefix('\'')
                    .and_then(|default| default.strip_suffix('\''));
                (name.trim(), Some(quoted?))
            }
            None => (variable.trim(), None),
        };
        match name {
            "*" | "?" | "$" => out.push_str(name),
            _ => out.push_str(lookup(name).or(default)?),
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks_fit_as_iam_says() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("kms:*", "kms:Decrypt", true),
            ("kms:De*t", "kms:Decrypt", true),
            ("kms:De*t", "kms:Describe", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn stars_do_not_reach_over_colons_of_arns() {
        assert!(arn_fits(
            "arn:aws:iam::*:role/a*",
            "arn:aws:iam::1:role/ab:c"
        ));
        assert!(!arn_fits("arn:*:role/a", "arn:aws:iam::1:role/a"));
    }

    #[test]
    fn variables_are_filled_and_a_missing_one_is_no_value() {
        let lookup = |name: &str| (name == "aws:username").then_some("ann");
        assert_eq!(fill("u/${aws:username}", lookup).as_deref(), Some("u/ann"));
        assert_eq!(fill("${x:y, 'd'}${$}", lookup).as_deref(), Some("d$"));
        assert_eq!(fill("${x:y}", lookup), None);
        assert_eq!(fill("${open", lookup), None);
    }

    proptest! {
        #[test]
        fn fitting_agrees_with_the_plain_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn plain(p: &[u8], t: &[u8]) -> bool {
                match (p.split_first(), t.split_first()) {
                    (None, None) => true,
                    (Some((b'*', p2)), _) => plain(p2, t) || t.split_first().is_some_and(|(_, t)| plain(p, t)),
                    (Some((c, p)), Some((d, t))) => (*c == b'?' || c == d) && plain(p, t),
                    _ => false,
                }
            }
            prop_assert_eq!(fits(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
