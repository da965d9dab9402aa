//! Policies, good and bad, each with the findings it must give: `NAME.json` and `NAME.findings` in a folder beside the
//! tests. A line of findings is the place (`-` for the whole policy) and the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// What was found in a policy.
pub struct Examined {
    /// Each finding as in the files: place and code.
    pub lines: Vec<String>,
    /// The codes.
    pub codes: Vec<&'static str>,
    /// Whether all findings are notices.
    pub notices_only: bool,
    /// Whether the policy counts as clean.
    pub clean: bool,
}

/// The policies of a folder.
pub struct Policies {
    /// Name, policy, findings.
    pub all: Vec<(String, String, String)>,
}

impl Policies {
    pub fn of(folder: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(folder);
        let mut all: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .map(|path| {
                (
                    path.file_stem().unwrap().to_str().unwrap().to_owned(),
                    fs::read_to_string(&path).unwrap(),
                    fs::read_to_string(path.with_extension("findings")).unwrap(),
                )
            })
            .collect();
        all.sort();
        assert!(all.len() >= 25);
        Self { all }
    }

    /// Each gives just its findings; those called `good-…` are clean, and so are `clean` and nobody else.
    pub fn check(&self, examine: impl Fn(&str) -> Examined, clean: &[&str]) {
        let mut wrong = Vec::new();
        for (name, json, expected) in &self.all {
            let mut found = examine(json);
            found.lines.sort();
            let mut expected: Vec<&str> = expected.lines().collect();
            expected.sort_unstable();
            if found.lines != expected {
                let found = &found.lines;
                wrong.push(format!(
                    "{name}\n  found    {found:?}\n  expected {expected:?}"
                ));
            }
            assert_eq!(found.clean, found.notices_only, "{name}");
            let good = name.starts_with("good-") || clean.contains(&name.as_str());
            assert_eq!(found.clean, good, "{name}");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Every code (name and weight) is given by some policy and explained in docs/policy.md.
    pub fn cover(
        &self,
        examine: impl Fn(&str) -> Examined,
        codes: impl Iterator<Item = (&'static str, &'static str)>,
    ) {
        let given: BTreeSet<&str> = self
            .all
            .iter()
            .flat_map(|(_, json, _)| examine(json).codes)
            .collect();
        let documents = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
        let documents = fs::read_to_string(documents).unwrap();
        for (code, weight) in codes {
            assert!(given.contains(code), "no policy gives {code}");
            let row = format!("| `{code}` | {weight} |");
            assert!(documents.contains(&row), "docs/policy.md lacks {row}");
        }
    }
}
