#![allow(clippy::unwrap_used)]
//! Vectors: AWS's aws-sig-v4-test-suite (get-vanilla, post-vanilla, …) and the IAM example of the General Reference.

use super::*;

const KEY: &str = "AKIDEXAMPLE";
const DATE: &str = "20150830T123600Z";

struct Vector {
    name: &'static str,
    method: &'static str,
    query: &'static str,
    service: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    signature: &'static str,
}

const VECTORS: [Vector; 5] = [
    Vector {
        name: "get-vanilla",
        method: "GET",
        query: "",
        service: "service",
        headers: &[("host", "example.amazonaws.com")],
        body: "",
        signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    Vector {
        name: "get-vanilla-query-order-key-case",
        method: "GET",
        query: "Param2=value2&Param1=value1",
        service: "service",
        headers: &[("host", "example.amazonaws.com")],
        body: "",
        signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    },
    Vector {
        name: "post-vanilla",
        method: "POST",
        query: "",
        service: "service",
        headers: &[("host", "example.amazonaws.com")],
        body: "",
        signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    },
    Vector {
        name: "post-x-www-form-urlencoded",
        method: "POST",
        query: "",
        service: "service",
        headers: &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
        ],
        body: "Param1=value1",
        signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    },
    Vector {
        name: "IAM ListUsers of the General Reference",
        method: "GET",
        query: "Action=ListUsers&Version=2010-05-08",
        service: "iam",
        headers: &[
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
            ("host", "iam.amazonaws.com"),
        ],
        body: "",
        signature: "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    },
];

fn credential() -> Credential {
    Credential {
        access_key_id: KEY.to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: None,
        expires: None,
        principal_arn: "arn:aws:iam::111122223333:user/example".to_owned(),
        policies: Vec::new(),
    }
}

fn scope(service: &str) -> Scope<'_> {
    Scope {
        region: "us-east-1",
        service,
        now: Timestamp::parse_basic(DATE).unwrap(),
    }
}

fn headers_of(vector: &Vector) -> Vec<(String, String)> {
    let date = ("x-amz-date", DATE);
    let all = vector.headers.iter().chain(std::iter::once(&date));
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn authorization_of(vector: &Vector) -> String {
    let headers = headers_of(vector);
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20150830/us-east-1/{}/aws4_request, SignedHeaders={}, Signature={}",
        vector.service,
        names.join(";"),
        vector.signature
    )
}

fn checked(
    vector: &Vector,
    change: impl FnOnce(&mut Vec<(String, String)>, &mut String, &mut Credential, &mut Scope<'_>),
) -> Result<(), ApiError> {
    let mut headers = headers_of(vector);
    let mut text = authorization_of(vector);
    let mut credential = credential();
    let mut scope = scope(vector.service);
    change(&mut headers, &mut text, &mut credential, &mut scope);
    let request = SignedRequest {
        method: vector.method,
        path: "/",
        query: vector.query,
        headers: &headers,
        body: vector.body.as_bytes(),
    };
    check(&request, &authorization(&text)?, &credential, &scope)
}

#[test]
fn awss_published_signatures_are_accepted() {
    for vector in &VECTORS {
        assert_eq!(checked(vector, |_, _, _, _| ()), Ok(()), "{}", vector.name);
    }
}

#[test]
fn another_secret_or_a_changed_header_is_refused() {
    let mismatch = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
    let expected = Err(ApiError::new("InvalidSignatureException", mismatch));
    let vector = &VECTORS[0];
    assert_eq!(
        checked(vector, |_, _, c, _| c.secret_access_key.push('x')),
        expected
    );
    assert_eq!(checked(vector, |h, _, _, _| h[0].1.push('x')), expected);
    assert_eq!(
        checked(vector, |_, a, _, _| a.replace_range(a.len() - 1.., "2")),
        expected
    );
    assert_eq!(checked(vector, |_, a, _, _| a.push('1')), expected);
}

#[test]
fn a_signature_is_good_for_five_minutes_either_way() {
    let vector = &VECTORS[0];
    let at = Timestamp::parse_basic(DATE).unwrap();
    for now in [at.minus_seconds(300), at.plus_seconds(300)] {
        assert_eq!(checked(vector, |_, _, _, s| s.now = now), Ok(()));
    }
    assert_eq!(
        checked(vector, |_, _, _, s| s.now = at.plus_seconds(301)),
        Err(invalid(
            "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
        ))
    );
    assert_eq!(
        checked(vector, |_, _, _, s| s.now = at.minus_seconds(301)),
        Err(invalid(
            "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"
        ))
    );
}

#[test]
fn scope_token_and_expiry_are_checked() {
    let vector = &VECTORS[0];
    let code = |result: Result<(), ApiError>| result.unwrap_err().code;
    let region = checked(vector, |_, _, _, s| s.region = "eu-central-1").unwrap_err();
    assert_eq!(
        region.message.unwrap(),
        "Credential should be scoped to a valid region, not 'us-east-1'. Credential should be scoped to correct region: 'eu-central-1'. "
    );
    assert_eq!(
        code(checked(vector, |_, _, _, s| s.service = "kms")),
        "InvalidSignatureException"
    );
    let missing = checked(vector, |_, _, c, _| {
        c.session_token = Some("token".to_owned())
    });
    assert_eq!(code(missing), "UnrecognizedClientException");
    let expired = checked(vector, |_, _, c, _| {
        c.expires = Some("2015-08-30T12:36:00Z".to_owned())
    });
    assert_eq!(code(expired), "ExpiredTokenException");
}

#[test]
fn an_amazon_header_outside_the_signature_is_refused() {
    let added =
        |h: &mut Vec<(String, String)>, _: &mut String, _: &mut Credential, _: &mut Scope<'_>| {
            h.push(("x-amz-target".to_owned(), "TrentService.Decrypt".to_owned()));
        };
    assert_eq!(
        checked(&VECTORS[0], added),
        Err(invalid(
            "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."
        ))
    );
}

#[test]
fn headers_that_are_no_authorization_are_refused() {
    for text in [
        "",
        "Basic dXNlcjpwYXNz",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host",
        "AWS4-HMAC-SHA256 Credential=a/b/c/aws4_request, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=00, more",
    ] {
        let error = authorization(text).err().unwrap();
        assert_eq!(error.code, "IncompleteSignatureException", "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_header_makes_the_reader_panic(text in "(AWS4-HMAC-SHA256 )?[A-Za-z0-9=/;, ]{0,80}\\PC{0,20}") {
        let _ = authorization(&text);
    }
}
