# The systemd unit, and the scripts of a checkout.
EXTRA_DIST += contrib/version contrib/setup.sh contrib/quickstart contrib/systemd/stepd.service.in contrib/systemd/stepd.socket

if HAVE_SYSTEMD_UNIT
systemdsystemunit_DATA = contrib/systemd/stepd.service contrib/systemd/stepd.socket
endif
CLEANFILES += contrib/systemd/stepd.service
contrib/systemd/stepd.service: contrib/systemd/stepd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) -e 's|[@]sbindir[@]|$(sbindir)|g' -e 's|[@]sysconfdir[@]|$(sysconfdir)|g' \
		$(srcdir)/contrib/systemd/stepd.service.in >$@
