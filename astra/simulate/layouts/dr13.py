"""DR13 (apred r6): IDL writers, strings padded to eight, a radial-velocity stage that rewrites the visit's header."""

from __future__ import annotations

from astra.simulate.layouts.base import FRAMES, IDL_HEAD, VISIT_HISTORY, Layout

_VISIT = f"""\
{IDL_HEAD}LOCID|{{locid:i}}|Location ID of field
PLATE|{{plate:s}}|Plate ID
TELESCOP|{{telescope_card:s}}|Telescope
MJD5|{{mjd:i}}|MJD of observation
FIBERID|{{fiber:i}}| APOGEE Fiber ID 1-300
DATE-OBS|{{dateobs:s}}|
EXPTIME|{{exptime:e}}|Total visit exptime per dither pos
JD-MID|{{jdmid:d}}| JD at midpoint of visit
UT-MID|{{utmid:s}}| Date at midpoint of visit
NCOMBINE|8|
{FRAMES}NPAIRS|'4'| Number of dither pairs combined
OBJID|{{objid:s}}| Object ID
OBJTYPE|'STAR'| Object type
AKMETHOD|'NONE'| Extinction method
RA|{{ra:d}}| targeting right ascension, deg, J2000
DEC|{{dec:d}}| targeting declination, deg, J2000
J|{{j:e}}| 2MASS J magnitude
H|{{h:e}}| 2MASS H magnitude
K|{{k:e}}| 2MASS Ks magnitude
SNR|{{snr:e}}| median S/N, middle chip
TARG1|{{targ1:i}}| First APOGEE targeting flag (bitwise, see docs)
TARG2|{{targ2:i}}| Second APOGEE targeting flag (bitwise, see docs)
HPLUS|{{hplus:e}}| Delta H (neigh-obj) mag of neighboring (+1) fib
HMINUS|{{hminus:e}}| Delta H (neigh-obj) mag of neighboring (-1) fib
STARFLAG|{{starflag:i}}| Star data quality flag
FLUXFLAM|{{fluxflam:e}}| ADU to flux units conv factor (ergs/s/cm^2/A)
V_APRED|{{v_apred:s}}|apogeereduce software version
{VISIT_HISTORY}"""

_RV_STAGE = """\
LONGSTRN|'OGIP 1.0'| The OGIP long string convention may be used.
COMMENT  This FITS file may contain long string keyword values that are
COMMENT  continued over multiple keywords.  This convention uses the  '&'
COMMENT  character at the end of a string which is then continued
COMMENT  on subsequent keywords whose name = 'CONTINUE'.
SYNTHFIL= '/home/apogee/software/apogeereduce/v3_15/on/a/path/of/some/length/l&'
CONTINUE  'ib/synthgrid/apg_rvsynthgrid.fits'
JD|{jd:d}|
HJD|{hjd:d}| Reduced Heliocentric JD
GLON|{glon:d}| degrees
GLAT|{glat:d}| degrees
BC|{bc:d}| barycentric correction (km/s)
VTYPE|2| RV type (1=chisq, 2=xcorr)
VRAD|{vrad:e}| doppler shift (km/s)
VRADERR|{verr:e}| VRAD error (km/s)
VSCATTER|{scatter:e}| km/s
VHELIO|{vhelio:d}| heliocentric velocity (km/s)
VLSR|{vlsr:d}| LSR velocity (km/s)
VGSR|{vgsr:d}| GSR velocity (km/s)
RVTEFF|{gridteff:e}| Teff (K) from mini-grid x correlation
RVLOGG|{gridlogg:e}| logg (dex) from mini-grid x correlation
RVFEH|{gridfeh:e}| [Fe/H] from mini-grid x correlation
RVALPH|{zero:e}| [alpha/H] from mini-grid x correlation
RVCARB|{zero:e}| [C/H] from mini-grid x correlation
XSHIFT|{xshift:e}| pixel shift
CCPEAK|{ccpeak:e}| cross-corr peak
CCPFWHM|{ccfwhm:e}| cross-corr peak FWHM
CHISQ|{chisq:e}| Chi Squared
HISTORY APRV APOGEE Reduction Pipeline Version: {v_apred_text}
HISTORY APRV Update on {updated}
HISTORY APRV astra on nowhere"""

_VISIT_COLUMNS = """\
APOGEE_ID:S19 TARGET_ID:S18 FILE:S30 FIBERID:i2 PLATE:S4 MJD:i4 TELESCOPE:S6 LOCATION_ID:i2 RA:f8 DEC:f8 GLON:f8
GLAT:f8 J:f4 J_ERR:f4 H:f4 H_ERR:f4 K:f4 K_ERR:f4 AK_TARG:f4 AK_TARG_METHOD:S8 AK_WISE:f4 SFD_EBV:f4 RA_TARG:f8
DEC_TARG:f8 APOGEE_TARGET1:i4 APOGEE_TARGET2:i4 APOGEE_TARGET3:i4 TARGFLAGS:S12 SNR:f4 STARFLAG:i4 STARFLAGS:S27
DATEOBS:S23 JD:f8 BC:f4 VTYPE:i2 VREL:f4 VRELERR:f4 VHELIO:f4 VLSR:f4 VGSR:f4 CHISQ:f4 RV_TEFF:f4 RV_FEH:f4
RV_LOGG:f4 RV_ALPHA:f4 RV_CARB:f4 SYNTHFILE:S20"""

_STAR = f"""\
{IDL_HEAD}OBJID|{{objid:s}}| Object ID
J|{{j:e}}| 2MASS J magnitude
H|{{h:e}}| 2MASS H magnitude
K|{{k:e}}| 2MASS Ks magnitude
TARG1|{{targ1:i}}| First APOGEE targeting flag (bitwise, see docs)
TARG2|{{targ2:i}}| Second APOGEE targeting flag (bitwise, see docs)
TARG3|0| Third APOGEE targeting flag (bitwise, see docs)
SURVEY|{{survey:s}}| Survey name (for targeting flags)
TELESCOP|{{telescope_card:s}}| Telescope
LOCID|{{locid:i}}| LocationID
FIELD|{{field:s}}| Field name
RA|{{ra:d}}| right ascension, deg, J2000
DEC|{{dec:d}}| declination, deg, J2000
GLON|{{glon:d}}| galactic longitude, deg, J2000
GLAT|{{glat:d}}| galactic latitude, deg, J2000
NVISITS|{{nvisits:i}}| number of visit spectra combined
COMMENT MEAN VALUES:
VRAD|{{zero:e}}| Doppler shift (km/s) of this spectrum
VHELIO|{{vhelio:e}}| mean heliocentric velocity (km/s)
VSCATTER|{{scatter:e}}| STDEV of VHELIO (km/s)
VERR|{{verr:e}}| weighted error in VHELIO (km/s)
VERR_MED|{{verr_med:e}}| median error in VHELIO (km/s)
SVHELIO|{{vhelio:e}}| mean heliocentric velocity (km/s) from SYNTHVHELIO
SVERR|{{verr:e}}| weighted error in SYNTHVHELIO
SVERR_ME|{{verr_med:e}}| median error of SYNTHVHELIO velocity (km/s) from
SVSCAT|{{scatter:e}}| STDEV of SYNTHVHELIO (km/s)
SYNTHSCA|{{zero:e}}| STDEV of VHELIO-SYNTHVHELIO (km/s)
SNR|{{snr:e}}| final median Signal/Noise ratio
STARFLAG|{{starflag:i}}| bitwise OR of individual visit starflags
ANDFLAG|{{starflag:i}}| bitwise AND of individual visit starflags
MEANFIB|{{meanfib:e}}| S/N weighted mean fiber number
SIGFIB|{{sigfib:e}}| standard deviation (unweighted) of fiber number
RVFEH|{{gridfeh:e}}| metallicity [Fe/H] from mini-grid cross correlation
RVTEFF|{{gridteff:e}}| effective temperature (K) from mini-grid cross corr
RVLOGG|{{gridlogg:e}}| surface gravity (dex) from mini-grid cross corr
RVALPH|{{zero:e}}| alpha abundance for mini-grid cross correlation
RVCARB|{{zero:e}}| carbon abundance for mini-grid cross correlation
CCPFWHM|{{ccfwhm:e}}| FWHM of RV CCF of star with template (km/s)
AUTOFWHM|{{autofwhm:e}}| FWHM of RV CCF of template with template (km/s)"""

_PER_VISIT = """\
COMMENT VISIT {n} INFORMATION:
SFILE{n}|{file:s}| Visit #{n} spectrum file
DATE{n}|{dateobs:s}| DATE-OBS of visit {n}
JD{n}|{jdmid:d}| Julian date of visit {n}
HJD{n}|{hjd:d}| Reduced Heliocentric JD of visit {n}
FIBER{n}|{fiber:i}| Fiber, visit {n}
BC{n}|{bc:e}| Barycentric correction (km/s),visit {n}
VTYPE{n}|3| RV type (1=chisq, 2=xcorr) from visit {n}
VRAD{n}|{vrad:e}| Doppler shift (km/s) of visit {n}
VERR{n}|{verr:e}| error in VRAD (km/s)
VHELIO{n}|{vhelio:e}| Heliocentric velocity (km/s), visit {n}
RVTEFF{n}|{gridteff:e}| effective temperature (K) from visit mini-grid
RVLOGG{n}|{gridlogg:e}| surface gravity (dex) from visit mini-grid xcorr
RVFEH{n}|{gridfeh:e}| metallicity [Fe/H] from visit mini-grid xcorr
RVALPH{n}|{zero:e}| alpha abundance from visit mini-grid xcorr
RVCARB{n}|{zero:e}| carbon abundance from visit mini-grid xcorr
SNRVIS{n}|{snr:e}| Signal/Noise ratio, visit {n}
FLAG{n}|{starflag:i}| STARFLAG for visit {n}"""

_TAIL = """\
RMIN|{rmin:i}| Min pixel of red chip contrib, any frame
RMAX|{rmax:i}| Maxmm pixel of red chip contrib, any frame
GMIN|{gmin:i}| Min pixel of green chip contrib, any frame
GMAX|{gmax:i}| Maxm pixel of green chip contrib, any frame
BMIN|{bmin:i}| Min pixel of blue chip contrib, any frame
BMAX|{bmax:i}| Maxm pixel of blue chip contrib, any frame
ROVERMIN|{rovermin:i}| Min pixel of red chip contrib, all frames
ROVERMAX|{rovermax:i}| Max pixel of red chip contrib, all frames
GOVERMIN|{govermin:i}| Min pixel of green chip contrib, all frames
GOVERMAX|{govermax:i}| Max pixel of green chip contrib, all frames
BOVERMIN|{bovermin:i}| Minimum pixel of blue chip contrib, all frames
BOVERMAX|{bovermax:i}| Maximum pixel of blue chip contrib, all frames
COMMENT Wavelength polynomial coefficients (Ang):
NWAVE|8575|Number of wavelengths in subsequent HDUs
CRVAL1|4.17900000000|Start log10(wavelength) in subsequent HDUs
CDELT1|6.00000000000E-06|Dispersion in log10(wavelength) in subsequent HDUs
CRPIX1|1|Pixel of starting wavelength in subsequent HDUs
CTYPE1|'LOG-LINEAR'|Logarithmic wavelength scale in subsequent HDUs
DC-FLAG|1|Logarithmic wavelength scale in subsequent HDUs
HISTORY APSTAR: {written}
HISTORY APSTAR:  APOGEE Reduction Pipeline Version: {v_apred_text}
HISTORY APSTAR: The data are in separate extensions:
HISTORY APSTAR:  HDU0 = Header only
HISTORY APSTAR:  All image extensions have:
HISTORY APSTAR:    row 1: combined spectrum with individual pixel weighting
HISTORY APSTAR:    row 2: combined spectrum with global weighting
HISTORY APSTAR:    row 3-nvisits+2: individual resampled visit spectra
HISTORY APSTAR:   unless nvisits=1, which only have a single row
HISTORY APSTAR:  All spectra shifted to rest (vacuum) wavelength scale
HISTORY APSTAR:  HDU1 - Flux (10^-17 ergs/s/cm^2/Ang)
HISTORY APSTAR:  HDU2 - Error (10^-17 ergs/s/cm^2/Ang)
HISTORY APSTAR:  HDU3 - Flag mask:
HISTORY APSTAR:    row 1: bitwise OR of all visits
HISTORY APSTAR:    row 2: bitwise AND of all visits
HISTORY APSTAR:    row 3-nvisits+2: individual visit masks
HISTORY APSTAR:  HDU4 - Sky (10^-17 ergs/s/cm^2/Ang)
HISTORY APSTAR:  HDU5 - Sky Error (10^-17 ergs/s/cm^2/Ang)
HISTORY APSTAR:  HDU6 - Telluric
HISTORY APSTAR:  HDU7 - Telluric Error
HISTORY APSTAR:  HDU8 - LSF coefficients
HISTORY APSTAR:  HDU9 - RV and CCF structure"""

DR13 = Layout(
    release="dr13",
    apred="r6",
    telescopes=("apo25m",),
    v_apred="v3_15",
    v_apred_star="v3_31",
    visit=_VISIT,
    rv_stage=_RV_STAGE,
    visit_columns=_VISIT_COLUMNS,
    named_hdus=False,
    star=_STAR,
    per_visit=_PER_VISIT,
    star_tail=_TAIL,
    star_units=(
        "Flux (10^-17 erg/s/cm^2/Ang)",
        "Error (10^-17 erg/s/cm^2/Ang)",
        "Flag Mask (bitwise)",
        "Sky (10^-17 erg/s/cm^2/Ang)",
        "Sky error (10^-17 erg/s/cm^2/Ang)",
        "Telluric",
        "Telluric error",
    ),
    star_writer="idl",
    float_type="f4",
    mask_type="i2",
    gaps=0.0,
    alone=True,
    versioned=False,
    stepwise=True,
    survey="apogee",
)
