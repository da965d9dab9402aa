//! Parameters of queries and forms (application/x-www-form-urlencoded).

/// The first parameter of this name, decoded.
pub(super) fn parameter(form: &str, name: &str) -> Option<String> {
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(found, _)| decode(found) == name)
        .map(|(_, value)| decode(value))
}

/// Percent-encoded text; what is not properly encoded stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hexadecimal = bytes.get(at + 1..at + 3);
        let decoded = hexadecimal
            .filter(|_| *byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (decoded, byte) {
            (Some(decoded), _) => {
                out.push(decoded);
                at += 2;
            }
            (None, b'+') => out.push(b' '),
            (None, other) => out.push(*other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_of_a_name_counts() {
        let form = "scope=https%3A%2F%2Fvault.azure.net%2F.default&a=1+2&a=3&b=%zz";
        let found = |name| parameter(form, name);
        assert_eq!(
            found("scope").as_deref(),
            Some("https://vault.azure.net/.default")
        );
        assert_eq!(found("a").as_deref(), Some("1 2"));
        assert_eq!(found("b").as_deref(), Some("%zz"));
        assert_eq!(found("c"), None);
    }
}
