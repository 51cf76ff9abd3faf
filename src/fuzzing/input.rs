/// Splits the input into its first line and the rest. Inputs are made of lines so that seeds can be
/// read and edited.
pub(super) fn split_line(input: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}
