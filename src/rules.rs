//! What a rule means: naming, association, templates. Pure.
