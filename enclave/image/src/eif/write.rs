//! Writing an image, sections in the order in which AWS's tools write them.

use super::{HEADER_LEN, Kind, MAGIC, MAX_SECTIONS, SECTION_HEADER_LEN, VERSION, checksum};

/// Memory the image asks for where nobody says how much, in bytes. `nitro-cli` always says.
const DEFAULT_MEMORY: u64 = 128 << 20;
/// Processors it asks for where nobody says how many.
const DEFAULT_CPUS: u64 = 2;

/// An image for x86_64 to be written.
pub struct Image {
    /// A bzImage.
    pub kernel: Vec<u8>,
    /// The kernel's command line.
    pub command_line: String,
    /// JSON; not measured.
    pub metadata: Vec<u8>,
    /// The program; measured as PCR1, with the kernel and the command line.
    pub first_ramdisk: Vec<u8>,
    /// The configuration; measured as PCR2.
    pub second_ramdisk: Vec<u8>,
    /// CBOR; see [`crate::signature`].
    pub signature: Option<Vec<u8>>,
}

impl Image {
    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sections: Vec<(Kind, &[u8])> = vec![
            (Kind::Kernel, &self.kernel),
            (Kind::CommandLine, self.command_line.as_bytes()),
            (Kind::Metadata, &self.metadata),
            (Kind::Ramdisk, &self.first_ramdisk),
            (Kind::Ramdisk, &self.second_ramdisk),
        ];
        sections.extend(
            self.signature
                .iter()
                .map(|data| (Kind::Signature, data.as_slice())),
        );
        let mut count = 0_u16;
        let mut offsets = [0_u64; MAX_SECTIONS];
        let mut sizes = [0_u64; MAX_SECTIONS];
        let mut body = Vec::new();
        for ((kind, data), (offset, size)) in
            sections.iter().zip(offsets.iter_mut().zip(&mut sizes))
        {
            *offset = (HEADER_LEN + body.len()) as u64;
            *size = data.len() as u64;
            count += 1;
            body.reserve(SECTION_HEADER_LEN + data.len());
            body.extend_from_slice(&kind.number().to_be_bytes());
            body.extend_from_slice(&[0; 2]); // flags
            body.extend_from_slice(&size.to_be_bytes());
            body.extend_from_slice(data);
        }
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&VERSION.to_be_bytes());
        file.extend_from_slice(&[0; 2]); // flags
        file.extend_from_slice(&DEFAULT_MEMORY.to_be_bytes());
        file.extend_from_slice(&DEFAULT_CPUS.to_be_bytes());
        file.extend_from_slice(&[0; 2]); // reserved
        file.extend_from_slice(&count.to_be_bytes());
        for number in offsets.iter().chain(&sizes) {
            file.extend_from_slice(&number.to_be_bytes());
        }
        file.extend_from_slice(&[0; 4]); // unused
        file.extend_from_slice(&checksum(&file, &body).to_be_bytes());
        file.append(&mut body);
        file
    }
}
