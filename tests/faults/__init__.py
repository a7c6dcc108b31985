"""What the promises say, tried by breaking things."""
