"""vhost-user: the messages, both roles without sockets, the back-end server and the front-end client."""
