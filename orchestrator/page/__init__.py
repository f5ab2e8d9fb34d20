"""A page to look at: streams a prompt's tokens into a browser, and shows how they came.

Off unless it has a port. It is a front as the others are; it shows, and decides nothing.
web_server.py is HTTP, security.py who may ask, messages.py JSON to values and back, front.py puts
them together. page.html, page.css and page.js are what the browser gets, as they are.
"""
