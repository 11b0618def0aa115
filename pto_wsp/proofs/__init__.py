"""What is proved of pipelines before they run: that their numbers do not depend on time, that processes share nothing without an
order, and that they come to an end."""
