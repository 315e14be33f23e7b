"""What pages are drawn with: figures as SVG, colours, small pieces of HTML."""
