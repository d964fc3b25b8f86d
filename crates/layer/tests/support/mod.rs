//! Tars as nobody should write them.

/// A header block with these fields, and what the caller changes in it.
pub fn header(
    flag: u8,
    name: &[u8],
    link: &[u8],
    size: u64,
    change: impl FnOnce(&mut [u8; 512]),
) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000001750");
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A tar while it is put together.
#[derive(Default)]
pub struct TarBytes(pub Vec<u8>);

impl TarBytes {
    pub fn raw(mut self, block: [u8; 512], content: &[u8]) -> Self {
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn entry(self, flag: u8, name: &str, link: &str, content: &[u8]) -> Self {
        let block = header(flag, name.as_bytes(), link.as_bytes(), content.len() as u64, |_| ());
        self.raw(block, content)
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name, "", content.as_bytes())
    }

    pub fn dir(self, name: &str) -> Self {
        let block =
            header(b'5', name.as_bytes(), b"", 0, |block| block[100..107].copy_from_slice(b"0000755"));
        self.raw(block, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, b"")
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, b"")
    }

    /// An extended header for the next entry.
    pub fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length += 1;
            }
            content.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        self.entry(b'x', "PaxHeaders.0/x", "", &content)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}
