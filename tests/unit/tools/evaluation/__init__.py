"""What paceline evaluate makes of what it recorded."""
