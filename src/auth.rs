//! Who is asking, and may they: front-proxy headers, x509, TokenReview, SubjectAccessReview.
