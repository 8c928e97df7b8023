//! Samples: readers, preprocessing, augmented views.
