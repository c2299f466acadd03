"""A sweep as one HTML file that needs nothing else: what was asked, what came out, what it cost, how to do it again."""
