"""Keys, and statements signed with them: who said what about which content, and when."""
