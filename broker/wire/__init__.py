"""HTTP/1.1 on both sides of the broker.  Below everything else.

This says what is accepted, refused, bounded and changed.

What comes in (:mod:`broker.wire.server`), by RFC 9112 unless said otherwise:

* *accepted*: ``METHOD target HTTP/1.1`` or ``HTTP/1.0`` with any method of token characters; a target that begins with
  ``/``, an absolute ``http(s)://`` one (its host is not looked at), or ``*``; lines that end with CRLF; bodies of a
  ``Content-Length`` or of ``Transfer-Encoding: chunked``; chunk extensions, which are dropped; a few empty lines
  before a request.
* *refused*, with problem+json and the end of the connection: a line that ends with LF alone, a folded line, a blank
  before a colon, control characters (400); no ``Host`` in HTTP/1.1, or several (400); a body that two fields frame, or
  several, or one that is not a number (400); a transfer coding other than ``chunked`` (501); bytes in the target that a
  URL may not hold, and ``#`` (400); ``CONNECT`` (501); other versions (505).
* *bounded*: see :class:`broker.wire.server.Limits`.  A head beyond its size or number of fields is 431, its first line
  alone 414.  A head or a body that isn't whole in time is 408.  A connection too many is 503; if there are many of
  them, they are cut off unheard.  A reader that takes an answer slowly is given time; one that takes next to nothing
  is cut off.
* *ended*: a sender that ends its side (half-close) is taken for gone.  If a request asked to be asked for its body
  (``Expect``) and was not, the connection ends after its answer.
* *changed*: field names are lower case in the ASGI scope, as ASGI wants it.  Its extension ``keybroker.headers`` has
  them as they were sent, ``keybroker.target`` the target.  Fields after a body (trailers) are checked, counted and
  dropped: they never act as headers.

What comes back from an upstream (:mod:`broker.wire.client`):

* *accepted* beyond the above, since upstreams are as they are: lines that end with LF alone and folded lines in the
  head; a status line without a reason; several ``Content-Length`` fields that agree; ``Content-Length`` beside
  ``Transfer-Encoding`` (the latter counts, and the connection is not used again); interim answers, which are dropped.
* *unreadable*, never retried: a status outside 200 to 599, so also an unasked ``101``; a head that is none or is beyond
  its bounds; framing that contradicts itself; a body that can't be decoded.
* *broken off*: a body that ends before its end.  Also a body without a length, if TLS ends without having told so
  (RFC 9112 §9.8).
* *no answer*: only if not one byte of one came.
* *changed*: ``gzip`` and ``deflate``, asked for or not, are decoded within bounds (:mod:`broker.wire.codings`).  Other
  codings are left, and named.
"""
