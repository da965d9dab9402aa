//! The metadata section: what people may want to know of an image. Not measured, so not to be relied on.

use serde::{Deserialize, Serialize};

/// The time of every build: a real one would make two builds differ.
const BUILD_TIME: &str = "1970-01-01T00:00:00+00:00";

/// In the shape of AWS's tools (aws-nitro-enclaves-image-format, src/defs/mod.rs `EifIdentityInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// Name of the image.
    pub image_name: String,
    /// Its version.
    pub image_version: String,
    /// How it was built.
    pub build_metadata: BuildMetadata,
    /// What is known of a container image it was made of: nothing here.
    pub docker_info: serde_json::Value,
    /// Whatever its makers want.
    pub custom_metadata: serde_json::Value,
}

/// How an image was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BuildMetadata {
    /// When (RFC 3339).
    pub build_time: String,
    /// By which tool.
    pub build_tool: String,
    /// And which version of it.
    pub build_tool_version: String,
    /// What runs in it.
    pub operating_system: String,
    /// Release of the kernel.
    pub kernel_version: String,
}

impl Metadata {
    /// Of an image of ours.
    #[must_use]
    pub fn new(name: &str, kernel_release: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            image_name: name.to_owned(),
            image_version: version.to_owned(),
            build_metadata: BuildMetadata {
                build_time: BUILD_TIME.to_owned(),
                build_tool: env!("CARGO_PKG_NAME").to_owned(),
                build_tool_version: version.to_owned(),
                operating_system: "Linux".to_owned(),
                kernel_version: kernel_release.to_owned(),
            },
            docker_info: serde_json::Value::Object(serde_json::Map::new()),
            custom_metadata: serde_json::Value::Object(serde_json::Map::new()),
        }
    }

    /// The section.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and empty objects always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
