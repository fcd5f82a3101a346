"""The small base that `hub base starter` builds, its words and its texts."""
