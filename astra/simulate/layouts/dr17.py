"""DR17: IDL visits without a radial-velocity stage, astropy stars in double precision, prefix "as" in the south."""

from __future__ import annotations

from astra.simulate.layouts.base import FRAMES, IDL_HEAD, VISIT_HISTORY, Layout

_VISIT = f"""\
{IDL_HEAD}LOCID|{{locid:i}}|Location ID of field
CARTID|{{cartid:i}}|Cartridge ID
PLATE|{{plate:i}}|Plate ID
TELESCOP|{{telescope_card:s}}|Telescope
MJD5|{{mjd:i}}|MJD of observation
FIBERID|{{fiber:i}}| APOGEE Fiber ID 1-300
DATE-OBS|{{dateobs:s}}|
EXPTIME|{{exptime:e}}|Total visit exptime per dither pos
JD-MID|{{jdmid:d}}| JD at midpoint of visit
UT-MID|{{utmid:s}}| Date at midpoint of visit
WAVEID|{{waveid:i}}|
LSFID|{{lsfid:i}}|
NCOMBINE|8|
{FRAMES}NPAIRS|4| Number of dither pairs combined
OBJID|{{objid:s}}| Object ID
OBJTYPE|'STAR'| Object type
AKMETHOD|'RJCE_IRAC'|Extinction method
RA|{{ra:d}}| targeting right ascension, deg, J2000
DEC|{{dec:d}}| targeting declination, deg, J2000
J|{{j:e}}| 2MASS J magnitude
H|{{h:e}}| 2MASS H magnitude
K|{{k:e}}| 2MASS Ks magnitude
SNR|{{snr:e}}| median S/N, middle chip
SURVEY|{{survey:s}}| Survey definition (for targeting flags)
TARG1|{{targ1:i}}| First APOGEE targeting flag (bitwise, see docs)
TARG2|{{targ2:i}}| Second APOGEE targeting flag (bitwise, see docs)
TARG3|0| Third APOGEE targeting flag (bitwise, see docs)
AKTARG|{{aktarg:e}}|Extinction used in targeting
AKWISE|-9999.99|WISE extinction
SFD_EBV|-9999.99|SFD E(B-V)
HPLUS|{{hplus:e}}| Delta H (neigh-obj) mag of neighboring (+1) fib
HMINUS|99.9900| Delta H (neigh-obj) mag of neighboring (-1) fib
RELFLUX|{{relflux:e}}|
MTPFLUX|{{mtpflux:e}}|
STARFLAG|{{starflag:i}}| Star data quality flag
FLUXFLAM|{{fluxflam:e}}| ADU to flux units conv factor (ergs/s/cm^2/A)
V_APRED|{{v_apred:s}}|apogeereduce software version
{VISIT_HISTORY}"""

_VISIT_COLUMNS = """\
APOGEE_ID:S19 TARGET_ID:S18 FILE:S32 FIBERID:i2 CARTID:i2 PLATE:S12 MJD:i4 TELESCOPE:S6 SURVEY:S7 FIELD:S6
PROGRAMNAME:S6 ALT_ID:S4 LOCATION_ID:i2 RA:f8 DEC:f8 GLON:f8 GLAT:f8 RELFLUX:f4 MTPFLUX:f4 J:f4 J_ERR:f4 H:f4
H_ERR:f4 K:f4 K_ERR:f4 SRC_H:S5 WASH_M:f4 WASH_M_ERR:f4 WASH_T2:f4 WASH_T2_ERR:f4 DDO51:f4 DDO51_ERR:f4 IRAC_3_6:f4
IRAC_3_6_ERR:f4 IRAC_4_5:f4 IRAC_4_5_ERR:f4 IRAC_5_8:f4 IRAC_5_8_ERR:f4 IRAC_8_0:f4 IRAC_8_0_ERR:f4 WISE_4_5:f4
WISE_4_5_ERR:f4 TARG_4_5:f4 TARG_4_5_ERR:f4 WASH_DDO51_GIANT_FLAG:i2 WASH_DDO51_STAR_FLAG:i2 PMRA:f4 PMDEC:f4
PM_SRC:S7 AK_TARG:f4 AK_TARG_METHOD:S9 AK_WISE:f4 SFD_EBV:f4 APOGEE_TARGET1:i4 APOGEE_TARGET2:i4 APOGEE_TARGET3:i4
APOGEE_TARGET4:i4 TARGFLAGS:S11 SNR:f4 STARFLAG:i4 STARFLAGS:S12 DATEOBS:S23 JD:f8 BC:f4 VTYPE:i2 VREL:f4 VRELERR:f4
VHELIO:f4 VLSR:f4 VGSR:f4 CHISQ:f4 RV_TEFF:f4 RV_FEH:f4 RV_LOGG:f4 RV_ALPHA:f4 RV_CARB:f4 SYNTHFILE:S18"""

_UNKNOWN = "-9999.990234375"

_STAR = f"""\
SIMPLE|T| conforms to FITS standard
BITPIX|8| array data type
NAXIS|0| number of array dimensions
EXTEND|T
CRVAL1|4.179| Start log10(wavelength) in subsequent HDUs
CDELT1|6E-06| Dispersion in log10(wave) in subsequent HDUs
CRPIX1|1| Pixel of starting wavelength in subsequent HDUs
CTYPE1|'LOG-LINEAR'| Logarithmic wavelength scale in subsequent HDUs
DC-FLAG|1| Logarithmic wavelength scale in subsequent HDUs
NWAVE|8575| Number of wavelengths in subsequent HDUs
FIELD|{{field:s}}| APOGEE field name
OBJID|{{objid:s}}| APOGEE object name
SNR|{{snr:p}}| Median S/N per apStar pixel
SNREV|{{snrev:p}}| Median S/N per apStar pixel in middle chip
RA|{{ra:p}}| right ascension, deg, J2000
DEC|{{dec:p}}| declination, deg, J2000
GLON|{{glon:p}}| Galactic longitude
GLAT|{{glat:p}}| Galactic latitude
J|{{j:p}}| 2MASS J magnitude
J_ERR|{{mag_err:p}}| 2MASS J magnitude uncertainty
H|{{h:p}}| 2MASS H magnitude
H_ERR|{{mag_err:p}}| 2MASS H magnitude uncertainty
K|{{k:p}}| 2MASS K magnitude
K_ERR|{{mag_err:p}}| 2MASS K magnitude uncertainty
SRC_H|'2MASS'| source of H magnitude
WASH_M|{_UNKNOWN}
WASH_T2|{_UNKNOWN}
DDO51|{_UNKNOWN}
IRAC_3_6|{{irac:p}}
IRAC_4_5|{{irac:p}}
IRAC_5_8|{{irac:p}}
WISE_4_5|{{irac:p}}
TARG_4_5|{{irac:p}}
AKTARG|{{aktarg:p}}| Extinction used for targeting
AKMETHOD|'RJCE_IRAC'| Extinction method using for targeting
AKWISE|{{aktarg:p}}| WISE all-sky extinction
SFD_EBV|{_UNKNOWN}| SFD E(B-V)
APTARG1|{{targ1:i}}| APOGEE_TARGET1 targeting flag
APTARG2|{{targ2:i}}| APOGEE_TARGET2 targeting flag
AP2TARG1|0| APOGEE2_TARGET1 targeting flag
AP2TARG2|0| APOGEE2_TARGET2 targeting flag
AP2TARG3|0| APOGEE2_TARGET3 targeting flag
AP2TARG4|0| APOGEE2_TARGET4 targeting flag
NVISITS|{{nvisits:i}}| Number of visit spectra combined flag
STARFLAG|{{starflag:i}}| bitwise OR of individual visit starflags
ANDFLAG|{{starflag:i}}| bitwise AND of individual visit starflags
N_COMP|1| Maximum number of components in RV CCFs
VHELIO|{{vhelio:p}}| S/N weighted mean barycentric RV
VSCATTER|{{scatter:p}}| standard deviation of visit RVs
VERR|{{verr:p}}| weighted error in VHELIO
VERR_MED|{{verr_med:p}}| median error in VHELIO
RV_TEFF|{{teff:p}}| Effective temperature from RV fit
RV_LOGG|{{logg:p}}| Surface gravity from RV fit
RV_FEH|{{feh:p}}| Metallicity from RV fit
RV_CHI2|{{chisq:p}}| chisq from Doppler RV fit
CCFWHM|{{ccfwhm:p}}| FWHM of RV CCF of star with template (km/s)
AUTOFWHM|{{autofwhm:p}}| FWHM of RV CCF of template with template (km/s)
MEANFIB|{{meanfib:p}}| S/N weighted mean fiber number
SIGFIB|{{sigfib:p}}| standard deviation (unweighted) of fiber number
NRES|' 5.00 4.25 3.50'| number of pixels/resolution used for sinc
MIN_H|7.0| minimum H mag of cohort
MAX_H|11.0| maximum H mag of cohort
MIN_JK|0.5| minimum J-K of cohort
MAX_JK|9999.990234375| maximum J-K of cohort
RMIN|{{rmin:i}}| Min pixel of red chip contrib, any frame
RMAX|{{rmax:i}}| Maxmm pixel of red chip contrib, any frame
GMIN|{{gmin:i}}| Min pixel of green chip contrib, any frame
GMAX|{{gmax:i}}| Maxm pixel of green chip contrib, any frame
BMIN|{{bmin:i}}| Min pixel of blue chip contrib, any frame
BMAX|{{bmax:i}}| Maxm pixel of blue chip contrib, any frame
ROVERMIN|{{rovermin:i}}| Min pixel of red chip contrib, all frames
ROVERMAX|{{rovermax:i}}| Max pixel of red chip contrib, all frames
GOVERMIN|{{govermin:i}}| Min pixel of green chip contrib, all frames
GOVERMAX|{{govermax:i}}| Max pixel of green chip contrib, all frames
BOVERMIN|{{bovermin:i}}| Minimum pixel of blue chip contrib, all frames
BOVERMAX|{{bovermax:i}}| Maximum pixel of blue chip contrib, all frames"""

_PER_VISIT = """\
COMMENT VISIT {n} INFORMATION
SFILE{n}|{file:s}|  Visit #{n} spectrum file
DATE{n}|{dateobs:s}| DATE-OBS of visit {n}
JD{n}|{jdmid:p}| Julian date of visit {n}
FIBER{n}|{fiber:i}| Fiber, visit {n}
BC{n}|{bc:p}| Barycentric correction (km/s), visit {n}
VRAD{n}|{vrad:p}| Radial velocity (km/s) of visit {n}
VERR{n}|{verr:p}| Uncertainty in radial velocity (km/s)
VHELIO{n}|{vhelio:p}| Barycentric velocity (km/s), visit {n}
SNRVIS{n}|{snr:p}| Median S/N per apStar pixel,, visit {n}
FLAG{n}|{starflag:i}| STARFLAG for visit {n}"""

STAR_HISTORY = """\
HISTORY APOGEE Reduction Pipeline Version: {v_apred_text}
HISTORY HDU0 : header
HISTORY HDU1 : flux
HISTORY HDU2 : flux uncertainty
HISTORY HDU3 : pixel bitmask
HISTORY HDU4 : sky
HISTORY HDU5 : sky uncertainty
HISTORY HDU6 : telluric
HISTORY HDU7 : telluric uncertainty
HISTORY HDU8 : LSF table
HISTORY HDU9 : RV table"""

STAR_UNITS = (
    "Flux (10^-17 erg/s/cm^2/Ang)", "Err (10^-17 erg/s/cm^2/Ang)", "Pixel bitmask", "Sky (10^-17 erg/s/cm^2/Ang)",
    "Sky error (10^-17 erg/s/cm^2/Ang)", "Telluric", "Telluric error",
)  # fmt: skip

DR17 = Layout(
    release="dr17",
    apred="dr17",
    telescopes=("apo25m", "lco25m"),
    v_apred="0.17.16",
    v_apred_star="0.17.22",
    visit=_VISIT,
    rv_stage="",
    visit_columns=_VISIT_COLUMNS,
    named_hdus=False,
    star=_STAR,
    per_visit=_PER_VISIT,
    star_tail=f"{STAR_HISTORY}\nHISTORY HDU10 : RV table for combined spectrum",
    star_units=STAR_UNITS,
    star_writer="astropy",
    float_type="f8",
    mask_type="i8",
    gaps=float("nan"),
    alone=False,
    versioned=False,
    stepwise=False,
    survey="apogee2",
)
