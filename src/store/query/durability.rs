//! What a store can say of its own safety; which words a verdict has, not how it is found.

/// How sure it is that what was answered survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Checked.
    Proven,
    /// The files are on a container's overlay: they are gone with the container.
    Overlay,
    /// The files are in memory; only where that was asked for.
    Memory,
    /// Redis, as the operator declares it (`durability: managed`): not verified.
    Declared,
    /// Redis, known or feared to lose answered events, and wanted so (`durability: relaxed`).
    Relaxed,
}

impl Durability {
    /// Every degree.
    pub const ALL: [Self; 5] = [Self::Proven, Self::Overlay, Self::Memory, Self::Declared, Self::Relaxed];

    /// The word for it in JSON, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Overlay => "overlay",
            Self::Memory => "memory",
            Self::Declared => "declared",
            Self::Relaxed => "relaxed",
        }
    }
}
