/// Declares map keys and values readable by aya, which asks for plain old data.
macro_rules! pod {
    ($($ty:ty = $size:literal bytes),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$ty>() == $size);

        #[cfg(feature = "user")]
        const _: () = {
            const fn plain<T: zerocopy::IntoBytes + zerocopy::FromBytes + Copy + 'static>() {}
            plain::<$ty>();
            // SAFETY: `plain` holds: every bit pattern is a value and no byte is padding.
            unsafe impl aya::Pod for $ty {}
        };
    )+};
}
pub(crate) use pod;
