"""One script per shipped model; each resumes, runs on CPU or GPU, and writes its pack entry."""
