//! Where the TPM is: a strict reading of TCTI strings, the form in which TPM tools name it. None is guessed at.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// How the TPM is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcti {
    /// A character device of the kernel, `device:/dev/tpmrm0`.
    Device(PathBuf),
    /// A software TPM on this machine, `swtpm:host=127.0.0.1,port=2321`. Its control channel, the next port, is not used.
    Swtpm(Endpoint),
}

/// Address of a software TPM. Loopback only: this process has no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Loopback address.
    pub host: IpAddr,
    /// Port of the command channel.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host={},port={}", self.host, self.port)
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm(at) => write!(f, "swtpm:{at}"),
        }
    }
}

/// A TCTI string is not one this process takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("TCTI {given:?}: {problem}; tpm2-tss would {library}; write {instead}")]
pub struct TctiError {
    /// The string as configured.
    pub given: String,
    /// What is wrong with it.
    pub problem: String,
    /// What tpm2-tss, which TPM tools hand these strings to, would have made of it.
    pub library: &'static str,
    /// What to write.
    pub instead: &'static str,
}

const DEVICE: &str = "device:/dev/tpmrm0";
const SWTPM: &str = "swtpm:host=127.0.0.1,port=2321";
const ANY: &str = "device:/dev/tpmrm0 or swtpm:host=127.0.0.1,port=2321";
const REFUSE: &str = "refuse it without a reason";

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(given: &str) -> Result<Self, TctiError> {
        let refuse = |problem: &str, library, instead| TctiError {
            given: given.to_owned(),
            problem: problem.to_owned(),
            library,
            instead,
        };
        let (kind, rest) = match given.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (given, None),
        };
        match (kind, rest) {
            ("device", None | Some("")) => Err(refuse(
                "no device named",
                "take /dev/tpm0, which one process holds alone and no resource manager shares",
                DEVICE,
            )),
            ("device", Some(path)) => device(path).ok_or_else(|| {
                refuse(
                    "not an absolute path of plain characters",
                    "open whatever that names from its working directory",
                    DEVICE,
                )
            }),
            ("swtpm", None | Some("")) => Err(refuse(
                "no address",
                "talk to whatever listens on localhost port 2321",
                SWTPM,
            )),
            ("swtpm", Some(keys)) => endpoint(given, keys).map(Self::Swtpm),
            ("mssim", _) => Err(refuse(
                "its protocol is not spoken here",
                "power that TPM on, then talk to it",
                SWTPM,
            )),
            ("tabrmd", _) => Err(refuse(
                "a resource manager daemon sees and serves others beside us",
                "connect to it over D-Bus",
                DEVICE,
            )),
            ("cmd" | "pcap" | "libtpms", _) => {
                Err(refuse("a TPM behind another program", REFUSE, ANY))
            }
            _ => Err(refuse("unknown kind", REFUSE, ANY)),
        }
    }
}

fn device(path: &str) -> Option<Tcti> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let named = path.starts_with('/') && !path.ends_with('/');
    (named && path.chars().all(plain) && !path.split('/').any(|part| part == ".."))
        .then(|| Tcti::Device(path.into()))
}

fn endpoint(given: &str, keys: &str) -> Result<Endpoint, TctiError> {
    let refuse = |problem: String, library| TctiError {
        given: given.to_owned(),
        problem,
        library,
        instead: SWTPM,
    };
    let (mut host, mut port) = (None, None);
    for pair in keys.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(refuse(
                format!("{pair:?} is not key=value"),
                "ignore it and may talk to localhost port 2321 instead",
            ));
        };
        let slot = match key {
            "host" => &mut host,
            "port" => &mut port,
            "path" => {
                return Err(refuse(
                    "unix sockets are not supported".to_owned(),
                    "ignore the path and talk to whatever listens on localhost port 2321",
                ));
            }
            other => {
                return Err(refuse(
                    format!("unknown key {other:?}"),
                    "ignore it and may talk to localhost port 2321 instead",
                ));
            }
        };
        if slot.replace(value).is_some() {
            return Err(refuse(
                format!("{key:?} twice"),
                "take the first and ignore the other",
            ));
        }
    }
    let host = match host {
        Some("localhost") => IpAddr::from([127, 0, 0, 1]),
        Some(host) => host
            .parse::<IpAddr>()
            .ok()
            .filter(IpAddr::is_loopback)
            .ok_or_else(|| {
                refuse(
                    format!("host {host:?} is not a loopback address"),
                    "resolve the name and talk to that host over the network",
                )
            })?,
        None => return Err(refuse("no host".to_owned(), "take localhost")),
    };
    let port = match port {
        // The control channel is at the next port, so the last one cannot be a command channel.
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|p| (1..u16::MAX).contains(p) && port.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| {
                refuse(
                    format!("port {port:?} is not a number from 1 to 65534"),
                    REFUSE,
                )
            })?,
        None => return Err(refuse("no port".to_owned(), "take port 2321")),
    };
    Ok(Endpoint { host, port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn problem(given: &str) -> String {
        given.parse::<Tcti>().unwrap_err().to_string()
    }

    #[test]
    fn the_forms_in_the_documentation_are_taken_and_print_as_they_were_written() {
        for given in [
            "device:/dev/tpmrm0",
            "device:/dev/tpm0",
            "swtpm:host=127.0.0.1,port=2321",
            "swtpm:host=::1,port=4000",
        ] {
            assert_eq!(given.parse::<Tcti>().unwrap().to_string(), given);
        }
        assert_eq!(
            "swtpm:port=7,host=localhost".parse::<Tcti>().unwrap(),
            Tcti::Swtpm(Endpoint {
                host: IpAddr::from([127, 0, 0, 1]),
                port: 7
            })
        );
    }

    #[test]
    fn a_socket_path_is_refused_with_what_the_library_would_have_done() {
        assert_eq!(
            problem("swtpm:path=/x.sock"),
            "TCTI \"swtpm:path=/x.sock\": unix sockets are not supported; tpm2-tss would ignore the path and talk \
             to whatever listens on localhost port 2321; write swtpm:host=127.0.0.1,port=2321"
        );
    }

    #[test]
    fn a_bare_device_is_refused_because_it_would_mean_the_exclusive_one() {
        for given in ["device", "device:"] {
            let told = problem(given);
            assert!(told.contains("take /dev/tpm0"), "{told}");
            assert!(told.ends_with("write device:/dev/tpmrm0"), "{told}");
        }
    }

    #[test]
    fn every_other_form_the_library_would_guess_at_is_refused_by_name() {
        for (given, expected) in [
            ("swtpm", "no address"),
            ("swtpm:", "no address"),
            ("mssim", "not spoken here"),
            ("mssim:host=127.0.0.1,port=2321", "not spoken here"),
            ("swtpm:host=127.0.0.1", "no port"),
            ("swtpm:port=2321", "no host"),
            ("swtpm:port=2321,port=2322,host=127.0.0.1", "\"port\" twice"),
            ("swtpm:host=127.0.0.1,port=65535", "port \"65535\""),
            ("swtpm:host=127.0.0.1,port=0", "port \"0\""),
            ("swtpm:host=127.0.0.1,port=+7", "port \"+7\""),
            ("swtpm:host=10.0.0.1,port=2321", "not a loopback address"),
            ("swtpm:host=tpm.example,port=2321", "not a loopback address"),
            ("swtpm:host=127.0.0.1,port=2321,x=1", "unknown key \"x\""),
            ("swtpm:/run/tpm.sock", "is not key=value"),
            ("device:tpmrm0", "not an absolute path"),
            ("device:/dev/../etc/passwd", "not an absolute path"),
            ("device:/dev/tpmrm0,x=1", "not an absolute path"),
            ("tabrmd:bus_type=system", "resource manager daemon"),
            ("cmd:ssh host tpm2_send", "behind another program"),
            ("libtpms:/state", "behind another program"),
            ("", "unknown kind"),
            ("tpm", "unknown kind"),
        ] {
            let told = problem(given);
            assert!(told.contains(expected), "{given}: {told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_prints_to_a_string_that_reads_back_the_same(given in ".{0,60}") {
            if let Ok(tcti) = given.parse::<Tcti>() {
                proptest::prop_assert_eq!(tcti.to_string().parse::<Tcti>(), Ok(tcti));
            }
        }
    }
}
