//! `redacted_debug!`, for types with fields that are secret or say nothing in a log.

/// Implements `Debug` for a type with these fields, and no others. A field without an expression is
/// the field of that name. Without a list of fields, it is only the name of the type.
macro_rules! redacted_debug {
    (@value $this:ident $field:ident) => { $this.$field };
    (@value $this:ident $field:ident $value:expr) => { $value };
    ($this:ident: $name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&$this, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
    (
        $this:ident: $(<$($param:ident $(: $bound:path)?),+>)? $name:ident {
            $($field:ident $(: $value:expr)?),* $(,)?
        }
    ) => {
        impl $(<$($param $(: $bound)?),+>)? std::fmt::Debug for $name $(<$($param),+>)? {
            fn fmt(&$this, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(
                        stringify!($field),
                        &redacted_debug!(@value $this $field $($value)?),
                    ))*
                    .finish_non_exhaustive()
            }
        }
    };
}
