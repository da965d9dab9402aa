//! Errors of KMS, and of whatever is on the way to it.

use super::*;

#[tokio::test]
async fn each_error_of_kms_has_its_name_and_only_passing_ones_are_tried_again() {
    use Class::{Damaged, Denied, Internal, Misuse, Unavailable};
    for (status, error_code, message, class, code, attempts) in [
        (
            400,
            "AccessDeniedException",
            "",
            Denied,
            "kms-access-denied",
            1,
        ),
        (400, "DisabledException", "", Denied, "kms-key-disabled", 1),
        (
            400,
            "KMSInvalidStateException",
            "k is pending deletion.",
            Denied,
            "kms-pending-deletion",
            1,
        ),
        (
            400,
            "KMSInvalidStateException",
            "k is pending import.",
            Denied,
            "kms-key-state",
            1,
        ),
        (400, "NotFoundException", "", Denied, "kms-key-not-found", 1),
        (
            400,
            "InvalidCiphertextException",
            "",
            Damaged,
            "kms-ciphertext-invalid",
            1,
        ),
        (
            400,
            "IncorrectKeyException",
            "",
            Damaged,
            "kms-wrong-key",
            1,
        ),
        (
            400,
            "InvalidKeyUsageException",
            "",
            Misuse,
            "kms-key-usage",
            1,
        ),
        (400, "ValidationException", "", Denied, "kms-validation", 1),
        (
            400,
            "ExpiredTokenException",
            "",
            Unavailable,
            "expired-credentials",
            1,
        ),
        (
            403,
            "UnrecognizedClientException",
            "",
            Denied,
            "kms-credentials",
            1,
        ),
        (
            403,
            "InvalidSignatureException",
            "Signature expired: a is now earlier than b",
            Unavailable,
            "kms-clock-skew",
            1,
        ),
        (
            403,
            "InvalidSignatureException",
            "does not match",
            Denied,
            "kms-credentials",
            1,
        ),
        (
            400,
            "ThrottlingException",
            "",
            Unavailable,
            "kms-throttled",
            3,
        ),
        (
            500,
            "KeyUnavailableException",
            "",
            Unavailable,
            "kms-unavailable",
            3,
        ),
        (
            500,
            "DependencyTimeoutException",
            "",
            Unavailable,
            "kms-unavailable",
            3,
        ),
        (
            500,
            "KMSInternalException",
            "",
            Unavailable,
            "kms-unavailable",
            3,
        ),
        (503, "SomethingNew", "", Unavailable, "kms-unavailable", 3),
        (400, "SomethingNew", "", Internal, "kms-error", 1),
    ] {
        let (refused, asked) = refusal_after(move |_| error(status, error_code, message)).await;
        assert_eq!(
            (refused.class, refused.code.as_str()),
            (class, code),
            "{error_code}"
        );
        assert_eq!(asked, attempts, "{error_code}");
        let text = format!(
            "kms:Decrypt with {KEY}: {error_code}: {message:?} (request id request-{attempts}, Mon, 23 Nov 2026 12:00:00 GMT)"
        );
        assert!(refused.message.starts_with(&text), "{}", refused.message);
        let earlier =
            "; 3 attempts, before it request id request-1, before it request id request-2";
        assert_eq!(refused.message.ends_with(earlier), attempts == 3);
    }
}

#[tokio::test]
async fn a_passing_fault_passes() {
    let endpoint = Endpoint::start(HOST, |asked| match asked.before {
        0 => error(400, "ThrottlingException", "Rate exceeded"),
        1 => Reply::Bytes(Vec::new()),
        _ => good(asked),
    });
    let request = request(endpoint.egress());
    let service = unattested(config(&endpoint));
    let (secret, facts) = open(&service, false, &request).await.unwrap();
    assert_eq!(secret, SECRET);
    assert_eq!(fact(&facts, "kms-attempts"), "3");
    // The second never came to an answer.
    assert_eq!(fact(&facts, "kms-earlier-request-id"), "request-1");
    assert_eq!(fact(&facts, "kms-request-id"), "request-3");
}

#[tokio::test]
async fn an_endpoint_that_stalls_is_left() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\nx-a: ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{",
    ] {
        let endpoint = Endpoint::start(HOST, |_| Reply::Stall(bytes.to_vec()));
        let request = request(endpoint.egress());
        let config = AwsKmsConfig {
            attempt: Duration::from_millis(300),
            attempts: 2,
            ..config(&endpoint)
        };
        let refused = refusal(&unattested(config), false, &request).await;
        let expected = (Class::Unavailable, "kms-timeout");
        assert_eq!((refused.class, refused.code.as_str()), expected);
        let text = "no complete answer within 300 ms; 2 attempts";
        assert!(refused.message.ends_with(text), "{}", refused.message);
    }
}

#[tokio::test]
async fn only_the_configured_roots_names_and_time_make_an_endpoint_kms() {
    let endpoint = Endpoint::start(HOST, good);
    let other = Endpoint::start(HOST, good);
    let elsewhere = Endpoint::start("kms.eu-west-2.amazonaws.com", good);
    // The year 5000: the certificates last until 4096.
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(95_617_584_000);
    let cases = [
        (config(&other), &endpoint, "UnknownIssuer"),
        (config(&elsewhere), &elsewhere, "not valid for name"),
        (
            AwsKmsConfig {
                clock: Clock::new(move || late),
                ..config(&endpoint)
            },
            &endpoint,
            "certificate expired",
        ),
    ];
    for (config, endpoint, reason) in cases {
        let refused = refusal(&unattested(config), false, &request(endpoint.egress())).await;
        assert_eq!(refused.code, "tls-certificate", "{}", refused.message);
        assert!(refused.message.contains(reason), "{}", refused.message);
        assert_eq!(endpoint.count(), 0, "nothing is said to whoever it is");
    }
}

#[tokio::test]
async fn an_absent_proxy_is_an_outage_that_is_tried_again() {
    let endpoint = Endpoint::start(HOST, good);
    let request = request(format!("{}-not", endpoint.egress()));
    let refused = refusal(&unattested(config(&endpoint)), false, &request).await;
    let expected = (Class::Unavailable, "egress-unreachable");
    assert_eq!((refused.class, refused.code.as_str()), expected);
    assert!(
        refused.message.ends_with("; 3 attempts"),
        "{}",
        refused.message
    );
}
